import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AF_UNIX, EPIPE, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from '../../src/sys/constants.ts';
import { closeFd } from '../../src/sys/descriptors.ts';
import { libc } from '../../src/sys/libc.ts';
import { SplicePipe } from '../../src/sys/splice-pipe.ts';

const fds: number[] = [];
const pipes: SplicePipe[] = [];
/** Two ends of a connection that do not block. */
function sockets(): readonly [number, number] {
  const pair = new Int32Array(new ArrayBuffer(8));
  if (libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) throw new Error('no pair');
  const [one = -1, other = -1] = pair;
  fds.push(one, other);
  return [one, other];
}
function open(bytes = 65_536): SplicePipe {
  const pipe = SplicePipe.open(bytes);
  if (!pipe) throw new Error('no pipe');
  pipes.push(pipe);
  return pipe;
}
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text));
function received(fd: number, most = 1_000_000): Buffer {
  const buffer = new Uint8Array(new ArrayBuffer(most));
  const count = libc().recv(fd, buffer, most, 0);
  return Buffer.from(buffer.subarray(0, Math.max(0, count)));
}

let from: number;
let into: number;
let to: number;
let out: number;
beforeEach(() => {
  [from, into] = sockets();
  [to, out] = sockets();
});
afterEach(() => {
  for (const pipe of pipes.splice(0)) pipe.close();
  for (const fd of fds.splice(0)) closeFd(fd);
});

describe('a pipe between two sockets', () => {
  it('takes what has come, and gives it on', () => {
    const pipe = open();
    expect(pipe.pull(from)).toBe(0);
    libc().send(into, bytesOf('some words'), 10, 0);
    expect([pipe.pull(from), pipe.held, pipe.pull(from)]).toEqual([10, 10, 0]);
    expect([pipe.push(to), pipe.held]).toEqual([10, 0]);
    expect(received(out).toString()).toBe('some words');
  });

  it('keeps what is not taken, in its order, also when a part is read out of it', () => {
    const pipe = open(1_024 * 1_024);
    const sent = Buffer.alloc(0xffff);
    sent.forEach((_, index) => (sent[index] = index % 251));
    const arrived: Buffer[] = [];
    for (let i = 0; i < 20; i++) {
      libc().send(into, new Uint8Array(sent), sent.length, 0);
      expect(pipe.pull(from)).toBe(sent.length);
      while (pipe.held > 0) {
        const given = pipe.push(to);
        if (given === 0) {
          // It is full: what is there already goes first.
          arrived.push(received(out));
          arrived.push(Buffer.from(pipe.read(1_000)));
        }
      }
      arrived.push(received(out));
    }
    expect(Buffer.concat(arrived).equals(Buffer.concat(Array.from({ length: 20 }, () => sent)))).toBe(true);
  });

  it('reads no more than there is', () => {
    const pipe = open();
    libc().send(into, bytesOf('abc'), 3, 0);
    pipe.pull(from);
    expect(Buffer.from(pipe.read(10)).toString()).toBe('abc');
    expect([pipe.held, pipe.read(10).length]).toEqual([0, 0]);
  });

  it('says when nobody takes it any more, and of the end that it is nothing', () => {
    const pipe = open();
    libc().send(into, bytesOf('abc'), 3, 0);
    closeFd(fds.splice(fds.indexOf(into), 1)[0]!);
    closeFd(fds.splice(fds.indexOf(out), 1)[0]!);
    expect([pipe.pull(from), pipe.pull(from)]).toEqual([3, 0]);
    expect([pipe.push(to), pipe.held]).toEqual([-EPIPE, 3]);
  });
});
