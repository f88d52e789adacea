import { describe, expect, it } from 'vitest';
import type { Address } from '../../src/net/address.ts';
import { ConnectionLog, type ConnectionQuery } from '../../src/terminate/connection-log.ts';
import { ConnectionMemory, memoryBytes } from '../../src/terminate/connection-memory.ts';

const clients = 'a b c d e f'.split(' ').map((name, index) => [name, `192.0.2.${index}` as Address] as const);
const connection = (client: string, openedAt: number, over: Readonly<{ port?: number; remote?: string }> = {}) => ({
  ...{ lease: 'lease-1', client: new Map(clients).get(client)!, clientPort: 50_000 },
  ...{ address: '198.51.100.10' as Address, port: over.port ?? 9_001 },
  ...{ remote: (over.remote ?? '203.0.113.1') as Address, remotePort: 443, openedAt },
});
const query = (at: number, over: Partial<ConnectionQuery> = {}): ConnectionQuery => ({
  ...{ address: '198.51.100.10', port: 9_001, remote: '203.0.113.1', remotePort: 443, at },
  ...over,
});
const clientsIn = (log: ConnectionLog, asked: ConnectionQuery) =>
  log.search(asked, 9_999, 10).matches.map(({ client }) => clients.find(([, address]) => address === client)?.[0]);

describe('the log of connections', () => {
  const sizes = { lasting: 4, ended: 2 };
  const log = new ConnectionLog(new ConnectionMemory(new ArrayBuffer(memoryBytes(sizes)), sizes, 100), 5);
  const endFirst = log.open(connection('a', 1_000));

  it('has one that lasts, from when it began', () => {
    expect(clientsIn(log, query(994))).toEqual([]);
    expect(clientsIn(log, query(995))).toEqual(['a']);
    expect(clientsIn(log, query(5_000))).toEqual(['a']);
    expect(log.search(query(5_000), 9_999, 10)).toMatchObject({
      matches: [{ closedAt: null }],
      coversSince: 100,
      coversThrough: 9_999,
      marginUs: 5,
    });
  });

  it('tells them apart by remote, port and time', () => {
    log.open(connection('b', 1_000, { remote: '203.0.113.2' }))(1_500, 'finished');
    endFirst(2_000, 'finished');
    log.open(connection('c', 2_500));
    expect(clientsIn(log, query(1_200))).toEqual(['a']);
    expect(clientsIn(log, query(1_200, { remote: '203.0.113.2' }))).toEqual(['b']);
    expect(clientsIn(log, query(1_200, { remote: null, remotePort: null })).toSorted()).toEqual(['a', 'b']);
    expect(clientsIn(log, query(2_005))).toEqual(['a']);
    expect(clientsIn(log, query(2_006))).toEqual([]);
    expect(clientsIn(log, query(2_600))).toEqual(['c']);
    expect(clientsIn(log, query(1_200, { port: 9_002 }))).toEqual([]);
    expect(clientsIn(log, query(1_200, { remotePort: 80 }))).toEqual([]);
  });

  it('forgets the ones that ended first, and says since when it knows', () => {
    expect(log.entries).toEqual({ open: 1, ended: 2 });
    log.open(connection('d', 3_000, { port: 9_007 }))(3_100, 'finished');
    expect(log.entries).toEqual({ open: 1, ended: 2 });
    // b was over at 1,500: what was over by then may be missing.
    expect(log.search(query(1_200), 9_999, 10).coversSince).toBe(1_501);
    expect(clientsIn(log, query(1_200, { remote: '203.0.113.2' }))).toEqual([]);
    expect(clientsIn(log, query(1_200))).toEqual(['a']);
  });

  it('says when it found more than it tells', () => {
    const asked = query(3_000, { remote: null, remotePort: null });
    log.open(connection('e', 2_900, { remote: '203.0.113.9' }));
    expect(log.search(asked, 9_999, 1)).toMatchObject({ truncated: true, matches: [{}] });
    expect(log.search(asked, 9_999, 2)).toMatchObject({ truncated: false });
  });

  it('hears of an end once', () => {
    const end = log.open(connection('f', 4_000, { port: 9_009 }));
    end(4_100, 'finished');
    end(4_900, 'finished');
    expect(clientsIn(log, query(4_500, { port: 9_009 }))).toEqual([]);
    expect(log.entries).toEqual({ open: 2, ended: 2 });
  });
});
