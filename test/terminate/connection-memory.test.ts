import { mkdtempSync, openSync, readdirSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { recordedEndings } from '../../src/fish/log/flow-record.ts';
import { readFlowRecord, flowRecord_bytes } from '../../src/fish/log/flow-records.ts';
import type { Address } from '../../src/net/address.ts';
import { ConnectionMemoryReader } from '../../src/terminate/connection-memory-reader.ts';
import { header_bytes, memoryBytes, row_bytes, type ConnectionMemory } from '../../src/terminate/connection-memory.ts';
import { logPathOf, logsBeside, openConnectionMemory } from '../../src/terminate/log-file.ts';
import { closeFd } from '../../src/sys/descriptors.ts';
import { unmap, type Mapping } from '../../src/sys/shared-memory.ts';

const sizes = { lasting: 4, ended: 3 };
let folder: string;
let path: string;
let fds: number[];
let memory: ConnectionMemory;
let mapping: Mapping;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-connections-'));
  path = logPathOf(join(folder, 'terminator-1.sock'));
  const opened = openConnectionMemory(path, sizes);
  ({ memory, mapping } = opened);
  fds = [];
});
afterEach(() => {
  unmap(mapping);
  fds.forEach(closeFd);
  rmSync(folder, { recursive: true, force: true });
});

function reader(): ConnectionMemoryReader {
  const fd = openSync(path, 'r');
  fds.push(fd);
  return new ConnectionMemoryReader(fd, statSync(path).size);
}
const begin = (number: number, over: object = {}): number =>
  memory.begin({
    ...{ lease: `lease-${number}`, client: '100.64.0.2' as Address, clientPort: 50_000 + number },
    ...{ address: '198.51.100.10' as Address, port: 9_000 + number, remote: '203.0.113.1' as Address, remotePort: 443 },
    ...{ openedAt: 1_000 * number },
    ...over,
  });
type Records = Readonly<{ records: Uint8Array; leases: readonly string[] }>;
const told = ({ records, leases }: Records) => {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  const count = records.byteLength / flowRecord_bytes;
  return Array.from({ length: count }, (_, n) => readFlowRecord(view, n * flowRecord_bytes, leases));
};
const writeByte = (fd: number, at: number, byte: number) => writeSync(fd, Uint8Array.of(byte), 0, 1, at);

describe('the connections of a terminator, in a file', () => {
  it('are told as flow records, by whoever reads it, in the order in which they ended', () => {
    const one = begin(1);
    const two = begin(2, {
      ...{ client: '2001:db8::2', address: '2001:db8::10', remote: '2001:db8:f::1' },
    });
    const read = reader();
    expect(read.ended(0, 10)).toMatchObject({ next: 0, missed: 0, leases: [] });
    memory.end(two, 5_000, 'reset');
    memory.end(one, 6_000, 'finished');
    const { next, missed, ...records } = read.ended(0, 10);
    expect({ next, missed }).toEqual({ next: 2, missed: 0 });
    expect(told(records)).toEqual([
      {
        ...{ lease: 'lease-2', protocol: 'tcp', client: '2001:db8::2', clientPort: 50_002, address: '2001:db8::10' },
        ...{ port: 9_002, remote: '2001:db8:f::1', remotePort: 443, openedAt: 2_000, closedAt: 5_000, ending: 'reset' },
      },
      {
        ...{ lease: 'lease-1', protocol: 'tcp', client: '100.64.0.2', clientPort: 50_001, address: '198.51.100.10' },
        ...{
          port: 9_001,
          remote: '203.0.113.1',
          remotePort: 443,
          openedAt: 1_000,
          closedAt: 6_000,
          ending: 'finished',
        },
      },
    ]);
    expect(told(read.ended(1, 10)).map(({ port }) => port)).toEqual([9_001]);
    expect(told(read.ended(0, 1)).map(({ port }) => port)).toEqual([9_002]);
    expect(read.aliveAt).toBe(6_000);
  });

  it('that were overwritten before they were read are counted, and since when all are known is told', () => {
    for (let number = 1; number <= 5; number++) memory.end(begin(number), 10_000 + number, 'finished');
    const { next, missed, coversSince, ...records } = reader().ended(1, 10);
    expect(told(records).map(({ port }) => port)).toEqual([9_003, 9_004, 9_005]);
    expect({ next, missed }).toEqual({ next: 5, missed: 1 });
    expect(coversSince).toBe(memory.coversSince);
  });

  it('that last when the process dies are told as ended then; rows are used again', () => {
    const rows = [begin(1), begin(2)];
    memory.end(rows[0]!, 4_000, 'idle');
    begin(3);
    const cut = recordedEndings.indexOf('cut');
    const last = told(reader().lasting(9_000, cut)).toSorted((a, b) => a.port - b.port);
    expect(last).toMatchObject([
      { port: 9_002, openedAt: 2_000, closedAt: 9_000, ending: 'cut', lease: 'lease-2' },
      { port: 9_003, closedAt: 9_000, lease: 'lease-3' },
    ]);
    // Where the clock was set back meanwhile.
    expect(told(reader().lasting(500, cut)).every(({ openedAt, closedAt }) => closedAt === openedAt)).toBe(true);
  });

  it('are no more than there is room for', () => {
    for (let number = 1; number <= 4; number++) begin(number);
    expect(() => begin(5)).toThrow('more than 4 connections');
  });

  it.each([
    ['of another kind', Buffer.alloc(4_096, 'nothing of the kind ')],
    ['that is cut short', Buffer.alloc(10)],
  ])('are not believed from a file %s', (_what, content) => {
    path = join(folder, 'another');
    writeFileSync(path, content);
    expect(reader).toThrow('no log of connections');
  });

  it('are left out where they are none: whoever wrote them deals with strangers', () => {
    const read = reader();
    memory.end(begin(1), 5_000, 'finished');
    memory.end(begin(2), 6_000, 'finished');
    expect(told(read.ended(0, 9))).toHaveLength(2);
    const first = header_bytes + sizes.lasting * row_bytes;
    const fd = openSync(path, 'r+');
    fds.push(fd);
    // Its protocol, and when the other one began.
    for (const [at, byte] of [
      [first + 16, 99],
      [first + row_bytes, 0x7f],
      [first + row_bytes + 1, 0xf0],
    ] as const)
      writeByte(fd, at, byte);
    expect(told(read.ended(0, 9))).toEqual([]);
    // So many have never ended.
    writeByte(fd, 16, 0x7f);
    expect(read.ended(0, 9)).toMatchObject({ next: 0, missed: 0 });
  });

  it('have a file of their own each time, beside the socket, which others leave alone', () => {
    writeFileSync(join(folder, 'terminator-1.sock.lock'), '');
    writeFileSync(join(folder, 'terminator-12-7-9.flows'), '');
    writeFileSync(join(folder, 'terminator-1-7-9.flows'), '');
    expect(readdirSync(folder)).toHaveLength(4);
    expect(logsBeside(join(folder, 'terminator-1.sock'))).toEqual([join(folder, 'terminator-1-7-9.flows'), path]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(() => openConnectionMemory(path, sizes)).toThrow(`the log of connections ${path}`);
    expect(statSync(path).size).toBe(memoryBytes(sizes));
  });
});
