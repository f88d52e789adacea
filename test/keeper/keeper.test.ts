import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connectKeeper, KeeperLostError, shortPatience, type KeeperClient } from '../../src/keeper/client.ts';
import { keeperPrograms, type KeeperProgram } from '../../src/keeper/program.ts';
import {
  headerBytes,
  kinds,
  op,
  opaqueBytes,
  readWord,
  recordBytes,
  recordsPerMessage_max,
  writeHeader,
  writeWord,
} from '../../src/keeper/protocol.ts';
import { ensureKeeper, startKeeper } from '../../src/keeper/start.ts';
import { closeFd } from '../../src/sys/descriptors.ts';
import { receiveDescriptors, sendDescriptors } from '../../src/sys/scm.ts';
import { connectSeqpacket } from '../../src/sys/seqpacket.ts';
import { drainEventFd, notify, openEventFd, waitReadable } from '../../src/sys/wait.ts';

/** Each is what a keeper has to be; which of them there are depends on the machine's compiler. */
const folder = mkdtempSync(join(tmpdir(), 'fishery-keeper-'));
const found = keeperPrograms('auto', folder);
const programs: readonly KeeperProgram[] = found.ok ? found.value : [];
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('there is always a keeper to be had', () => {
  expect(programs.map(({ implementation }) => implementation)).toContain('typescript');
});

/** A program that has a keeper's socket, and is none. */
const listening = `
  import { listenSeqpacket } from '${new URL('../../src/sys/seqpacket.ts', import.meta.url).href}';
  listenSeqpacket(process.argv[1]);
  console.log('ready');
  process.stdin.resume();
`;

const record = (text: string): Uint8Array => {
  const bytes = new Uint8Array(opaqueBytes);
  bytes.set(Buffer.from(text));
  return bytes;
};
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString().replace(/\0+$/, '');
const openHere = (): number => readdirSync('/proc/self/fd').length;

describe.each(programs)('the $implementation keeper', (program) => {
  let path: string;
  let keeper: KeeperClient;
  const opened: number[] = [];
  const clients: KeeperClient[] = [];

  const connect = (): KeeperClient => {
    const connected = connectKeeper(path);
    if (!connected.ok) throw new Error(connected.error);
    clients.push(connected.value);
    return connected.value;
  };
  const eventFd = (): number => {
    const fd = openEventFd();
    opened.push(fd);
    return fd;
  };
  /** Whether two descriptors are of one file: a notification through one shows in the other. */
  const isSame = (a: number, b: number): boolean => {
    notify(a);
    const seen = waitReadable(Int32Array.of(b), 1, 0) === 1;
    drainEventFd(a);
    return seen;
  };
  /** How many descriptors the keeper has open, its own included. */
  const openThere = (): number => readdirSync(`/proc/${keeper.hello.pid}/fd`).length;
  const slotsOf = (kind: (typeof kinds)[keyof typeof kinds]) => [...keeper.list(kind)].map(({ slot }) => slot);

  let places = 0;
  beforeEach(async () => {
    const place = join(folder, `${program.implementation}-${++places}`);
    mkdirSync(place);
    path = join(place, 'keeper.sock');
    expect(await startKeeper(path, program)).toBeUndefined();
    keeper = connect();
  });
  afterEach(() => {
    for (const client of clients.splice(0)) if (client !== keeper) client.close();
    if (!keeper.isAlive()) {
      const connected = connectKeeper(path);
      if (connected.ok) connected.value.end();
    }
    keeper.end();
    for (const fd of opened.splice(0)) closeFd(fd);
  });

  it('says what it is and what it can hold', () => {
    const { hello } = keeper;
    expect(hello).toMatchObject({ version: 1, implementation: program.implementation, kept: [0, 0, 0, 0] });
    expect(hello.descriptors_max).toBeGreaterThan(0);
    expect(hello.slots_max).toBeGreaterThanOrEqual(hello.descriptors_max);
    expect(hello.pid).not.toBe(process.pid);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('gives back what was put, with the bytes that came beside it, any number of times', () => {
    const fd = eventFd();
    expect(keeper.put(kinds.bound, 7, record('nine'), fd)).toBe(0);
    for (const client of [keeper, connect()]) {
      const [taken, ...others] = client.take(kinds.bound);
      expect(others).toEqual([]);
      expect([taken?.slot, textOf(taken!.record)]).toEqual([7, 'nine']);
      expect(isSame(fd, taken!.fd)).toBe(true);
      closeFd(taken!.fd);
    }
  });

  it('keeps it when the one who put it is gone, and for another user of the same kind', () => {
    const fd = openEventFd();
    const copy = eventFd();
    keeper.put(kinds.flow, 0, record('a'), fd);
    keeper.put(kinds.flow, 1, record('b'), copy);
    closeFd(fd);
    keeper.close();
    keeper = connect();
    const taken = [...keeper.take(kinds.flow)];
    expect(taken.map((each) => textOf(each.record))).toEqual(['a', 'b']);
    expect(isSame(copy, taken[1]!.fd)).toBe(true);
    taken.forEach((each) => closeFd(each.fd));
  });

  it('has slots of each kind, and replaces what is in a used one', () => {
    const [first, second, third] = [eventFd(), eventFd(), eventFd()];
    keeper.put(kinds.singleton, 3, record('old'), first);
    keeper.put(kinds.bound, 3, record('other kind'), second);
    keeper.stats();
    const before = openThere();
    keeper.put(kinds.singleton, 3, record('new'), third);
    const taken = keeper.takeOne(kinds.singleton, 3);
    expect(textOf(taken!.record)).toBe('new');
    expect(isSame(third, taken!.fd)).toBe(true);
    closeFd(taken!.fd);
    expect(openThere()).toBe(before);
    expect(keeper.takeOne(kinds.singleton, 2)).toBeUndefined();
    expect(keeper.takeOne(kinds.singleton, 4)).toBeUndefined();
    expect(keeper.stats().kept).toEqual([1, 1, 0, 0]);
  });

  it('takes and gives any number, in pieces, and closes what is dropped', () => {
    const count = 2 * recordsPerMessage_max + 5;
    const empty = openThere();
    const all = Array.from({ length: count }, (_, index) => ({
      slot: 2 * index,
      record: record(`number ${index}`),
      fd: eventFd(),
    }));
    const here = openHere();
    expect(keeper.putMany(kinds.bound, all)).toBe(0);
    expect(keeper.stats()).toMatchObject({ kept: [0, count, 0, 0], puts: count, drops: 0 });
    expect(openThere()).toBe(empty + count);
    const taken = [...keeper.take(kinds.bound)];
    expect(taken.map(({ slot, record: bytes }) => [slot, textOf(bytes)])).toEqual(
      all.map(({ slot, record: bytes }) => [slot, textOf(bytes)]),
    );
    expect(taken.every(({ fd }, index) => isSame(fd, all[index]!.fd))).toBe(true);
    taken.forEach(({ fd }) => closeFd(fd));
    expect(slotsOf(kinds.bound)).toEqual(all.map(({ slot }) => slot));
    expect(openHere()).toBe(here);
    const dropped = all.slice(10).map(({ slot }) => slot);
    expect(keeper.drop(kinds.bound, [...dropped, 1, 3])).toBe(0);
    expect(keeper.stats().kept).toEqual([0, 10, 0, 0]);
    expect(openThere()).toBe(empty + 10);
    expect(slotsOf(kinds.bound)).toEqual(all.slice(0, 10).map(({ slot }) => slot));
  });

  it('serves several at a time, and hears that they are gone', async () => {
    const others = Array.from({ length: 5 }, connect);
    const fds = others.map(eventFd);
    others.forEach((client, index) => client.put(kinds.flow, index, record(`of ${index}`), fds[index]!));
    others.forEach((client) => client.stats());
    expect(slotsOf(kinds.flow)).toEqual([0, 1, 2, 3, 4]);
    others.forEach((client) => client.close());
    expect(slotsOf(kinds.flow)).toEqual([0, 1, 2, 3, 4]);
    await expect.poll(() => keeper.stats().connections).toBe(1);
  });

  it('takes no more connections than it can serve, and says so', async () => {
    const most = Array.from({ length: 15 }, connect);
    expect(most).toHaveLength(15);
    expect(connectKeeper(path)).toMatchObject({
      ok: false,
      error: expect.stringContaining('it has as many connections as it takes') as string,
    });
    most[0]!.close();
    await expect.poll(() => keeper.stats().connections).toBe(15);
    expect(connect().isAlive()).toBe(true);
  });

  it('is one: a second one at the same place gives up and leaves it alone', async () => {
    keeper.put(kinds.bound, 0, record('kept'), eventFd());
    expect(await startKeeper(path, program)).toMatch(/at work/);
    expect(slotsOf(kinds.bound)).toEqual([0]);
    const used = await ensureKeeper(path, () => ({ ok: true, value: [program] }));
    if (!used.ok) throw new Error(used.error);
    clients.push(used.value);
    expect(used.value.hello.pid).toBe(keeper.hello.pid);
  });

  it('is started again over what a dead one left', async () => {
    process.kill(keeper.hello.pid, 'SIGKILL');
    await expect.poll(() => keeper.isAlive()).toBe(false);
    expect(keeper.problem).toMatch(/is lost: it is gone/);
    expect(keeper.put(kinds.bound, 0, record(''), eventFd())).toBeLessThan(0);
    expect(() => keeper.stats()).toThrow(KeeperLostError);
    expect(connectKeeper(path).ok).toBe(false);
    const again = await ensureKeeper(path, () => ({ ok: true, value: [program] }));
    if (!again.ok) throw new Error(again.error);
    clients.push(again.value);
    expect(again.value.hello.kept).toEqual([0, 0, 0, 0]);
    expect(again.value.isAlive()).toBe(true);
  });

  it('that hangs is lost soon to who must not wait, and another is started in its place, which holds nobody up', async () => {
    const client = connectKeeper(path, shortPatience);
    if (!client.ok) throw new Error(client.error);
    const { pid } = keeper.hello;
    expect(client.value.identity).toMatch(new RegExp(`^${pid} since \\d+$`));
    process.kill(pid, 'SIGSTOP');
    expect(() => client.value.stats()).toThrow('is lost: it does not answer');
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 10);
    const again = await ensureKeeper(path, () => ({ ok: true, value: [program] }), shortPatience);
    clearInterval(ticking);
    if (!again.ok) throw new Error(again.error);
    clients.push(again.value);
    expect(ticks).toBeGreaterThan(10);
    expect(again.value.hello.pid).not.toBe(pid);
    expect(again.value.identity).not.toBe(client.value.identity);
    await expect.poll(() => keeper.isAlive()).toBe(false);
  });

  it('in whose place somebody else listens and says nothing leaves that alone, and says so', async () => {
    keeper.end();
    const silent = spawn(process.execPath, ['--input-type=module', '-e', listening, path], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(silent.stdout, 'data');
    expect(await ensureKeeper(path, () => ({ ok: true, value: [program] }), shortPatience)).toEqual({
      ok: false,
      error: expect.stringContaining('is not a process that can be told from here') as string,
    });
    expect([silent.exitCode, silent.signalCode]).toEqual([null, null]);
    silent.kill('SIGKILL');
    await once(silent, 'close');
    rmSync(path);
  });

  it('ends when it is told to, with everything that it keeps, and leaves nothing behind', async () => {
    const here = openHere();
    keeper.put(kinds.bound, 0, record(''), eventFd());
    keeper.end();
    expect(readdirSync(join(path, '..'))).toEqual([]);
    expect(openHere()).toBe(here);
    await expect.poll(() => startKeeper(path, program)).toBeUndefined();
  });

  describe('with few descriptors', () => {
    const limit = 420;
    /** What a keeper keeps for itself is less. */
    const room = 420 - 317;
    /** So many records for slots from `slot` on, all with the same descriptor beside them. */
    const many = (count: number, slot = 0) => {
      const fd = eventFd();
      return Array.from({ length: count }, (_, index) => ({ slot: slot + index, record: record(''), fd }));
    };

    beforeEach(async () => {
      keeper.end();
      const { command, args } = program;
      const limited = {
        ...program,
        command: 'sh',
        args: ['-c', `ulimit -n ${limit}; exec "$@"`, 'sh', command, ...args],
      };
      expect(await startKeeper(path, limited)).toBeUndefined();
      keeper = connect();
    });

    it('keeps as many as it says, and ends the connection of who puts more, with what it has', () => {
      expect(keeper.hello.descriptors_max).toBe(room);
      keeper.putMany(kinds.bound, many(room - 3));
      keeper.putMany(kinds.flow, many(3));
      expect(keeper.stats().kept).toEqual([0, room - 3, 3, 0]);
      keeper.putMany(kinds.flow, many(2, 50));
      expect(() => keeper.stats()).toThrow('it refused: it is full');
      keeper = connect();
      expect(keeper.hello.kept).toEqual([0, room - 3, 3, 0]);
      keeper.drop(kinds.flow, [0, 1, 2]);
      keeper.putMany(kinds.flow, many(3, 50));
      expect(slotsOf(kinds.flow)).toEqual([50, 51, 52]);
    });

    it('and even fewer than it was promised loses what does not fit, and says that to who sent it', () => {
      keeper.putMany(kinds.bound, many(10));
      keeper.stats();
      const there = openThere();
      const { pid } = keeper.hello;
      execFileSync('prlimit', ['--pid', String(pid), `--nofile=${there + 20}:${limit}`]);
      keeper.putMany(kinds.flow, many(60));
      expect(() => keeper.stats()).toThrow('descriptors were lost on the way');
      keeper = connect();
      expect(keeper.hello.kept).toEqual([0, 10, 0, 0]);
      expect(openThere()).toBe(there);
    });
  });

  describe('hangs up on who makes no sense, says why, and keeps what it has', () => {
    const hello = (version: number): Uint8Array => {
      const bytes = new Uint8Array(headerBytes);
      writeHeader(bytes, op.hello, 0, 0, version);
      return bytes;
    };
    /** `count` records for slots from `slot` on. */
    const put = (kind: number, slot: number, count: number, said = count): Uint8Array => {
      const bytes = new Uint8Array(headerBytes + count * recordBytes);
      writeHeader(bytes, op.put, kind, said, 0);
      for (let index = 0; index < count; index++) writeWord(bytes, headerBytes + index * recordBytes, slot + index);
      return bytes;
    };
    const drop = (kind: number, slots: number, said = slots): Uint8Array => {
      const bytes = new Uint8Array(headerBytes + 4 * slots);
      writeHeader(bytes, op.drop, kind, said, 0);
      return bytes;
    };
    const head = (operation: number, kind: number, count: number): Uint8Array => {
      const bytes = new Uint8Array(headerBytes);
      writeHeader(bytes, operation, kind, count, 0);
      return bytes;
    };

    /** What comes back to these messages, in order, until the keeper hangs up: the first byte, and the number after it. */
    const converse = (messages: readonly (readonly [Uint8Array, number])[]): readonly string[] => {
      const socket = connectSeqpacket(path);
      opened.push(socket);
      for (const [bytes, descriptors] of messages)
        sendDescriptors(socket, bytes, Array.from({ length: descriptors }, eventFd));
      const heard: string[] = [];
      const buffer = new Uint8Array(16_384);
      for (;;) {
        const { bytes } = receiveDescriptors(socket, buffer);
        if (bytes <= 0) return heard;
        heard.push(`${String.fromCharCode(buffer[0]!)} ${readWord(buffer, 4)}`);
      }
    };

    it.each<[string, readonly (readonly [Uint8Array, number])[], readonly string[]]>([
      ['a message without a hello', [[head(op.stats, 0, 0), 0]], ['X 1']],
      ['another version, to which it tells its own', [[hello(2), 0]], ['S 0']],
      ['half a header', [[Uint8Array.of(op.hello, 0, 0), 0]], ['X 2']],
      [
        'a second hello',
        [
          [hello(1), 0],
          [hello(1), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'an unknown word',
        [
          [hello(1), 0],
          [head(0x3f, 0, 0), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a put without descriptors',
        [
          [hello(1), 0],
          [put(1, 0, 1), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a put of nothing',
        [
          [hello(1), 0],
          [put(1, 0, 0), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'more descriptors than records',
        [
          [hello(1), 0],
          [put(1, 0, 2), 3],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'more records than it says',
        [
          [hello(1), 0],
          [put(1, 0, 3, 2), 2],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a kind that there is not',
        [
          [hello(1), 0],
          [put(4, 0, 1), 1],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a slot that there is not',
        [
          [hello(1), 0],
          [put(1, 0xffff_fff0, 1), 1],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'descriptors beside a drop',
        [
          [hello(1), 0],
          [drop(1, 1), 1],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a drop that is too short',
        [
          [hello(1), 0],
          [drop(1, 1, 2), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a drop that is too long',
        [
          [hello(1), 0],
          [drop(1, 2_001), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a question for too many',
        [
          [hello(1), 0],
          [head(op.take, 1, 254), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a question for none',
        [
          [hello(1), 0],
          [head(op.list, 1, 0), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a question about a kind that there is not',
        [
          [hello(1), 0],
          [head(op.take, 9, 1), 0],
        ],
        ['S 0', 'X 2'],
      ],
      [
        'a message that is too long',
        [
          [hello(1), 0],
          [new Uint8Array(9_000), 0],
        ],
        ['S 0', 'X 2'],
      ],
    ])('%s', (_what, messages, heard) => {
      keeper.put(kinds.bound, 5, record('kept'), eventFd());
      keeper.stats();
      const before = openThere();
      expect(converse(messages)).toEqual(heard);
      expect(keeper.stats().kept).toEqual([0, 1, 0, 0]);
      expect(openThere()).toBe(before);
    });

    it('and the client that it hung up on knows why', () => {
      expect(keeper.put(kinds.bound, 0xffff_fff0, record(''), eventFd())).toBe(0);
      expect(() => keeper.stats()).toThrow('it refused: the message made no sense to it');
      expect(keeper.isAlive()).toBe(false);
    });
  });
});

beforeAll(() => {
  expect(found.ok).toBe(true);
});
