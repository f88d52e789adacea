import { afterEach, beforeEach, expect, test } from 'vitest';
import { TunWriter } from '../../../src/agent/fish/tun-writer.ts';
import { SocketTun } from '../../support/socket-tun.ts';

let tun: SocketTun;
const placeholders = { undelivered: 0, deliver: () => void (placeholders.undelivered = 0) };
let writer: TunWriter;
beforeEach(() => {
  tun = new SocketTun();
  placeholders.undelivered = 0;
  writer = new TunWriter(tun.fd, placeholders);
});
afterEach(() => tun.close());

const packet = (mark: number, bytes = 40) => new Uint8Array(bytes).fill(mark);
const write = (mark: number, bytes = 40) => writer.write(packet(mark, bytes), bytes);
/** The marks of the packets that have left. */
async function left(): Promise<number[]> {
  const marks: number[] = [];
  for (let each = await tun.receive(0); each; each = await tun.receive(0)) marks.push(each[0]!);
  return marks;
}

test('what waits for nothing leaves at once', async () => {
  write(1);
  expect(await left()).toEqual([1]);
});

test('the first packet of a flow, and what comes behind it, waits until its placeholder is delivered', async () => {
  placeholders.undelivered = 1;
  const buffer = packet(1);
  writer.write(buffer, 40);
  // The next packet is read into the same buffer.
  buffer.fill(9);
  write(2, 60);
  expect(await left()).toEqual([]);
  writer.flush();
  expect(placeholders.undelivered).toBe(0);
  write(3);
  expect(await left()).toEqual([1, 2, 3]);
});

test('a large packet waits for nothing but for those before it', async () => {
  placeholders.undelivered = 1;
  write(1);
  write(2, 30_000);
  expect(placeholders.undelivered).toBe(0);
  expect(await left()).toEqual([1, 2]);
});

test('no more than 64 packets wait', async () => {
  placeholders.undelivered = 1;
  for (let mark = 1; mark <= 63; mark++) write(mark);
  expect(await left()).toEqual([]);
  write(64);
  expect(await left()).toEqual(Array.from({ length: 64 }, (_, i) => i + 1));
});

test('what cannot be written is counted with its errno, and lost', async () => {
  tun.endOtherSide();
  write(1);
  expect([writer.failed, writer.errno]).toEqual([1, 32]);
});
