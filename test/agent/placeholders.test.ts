import { beforeEach, describe, expect, it } from 'vitest';
import { Placeholders } from '../../src/agent/placeholders.ts';
import type { Block } from '../../src/agent/sets.ts';
import { address } from '../support/fake-host.ts';
import { FakeSockets } from '../support/fake-sockets.ts';

const block = (first: number, last: number, over: Partial<Block> = {}): Block => ({
  address: address('198.51.100.10'),
  protocol: 'tcp',
  ports: { first, last },
  mode: 'exclusive',
  ...over,
});
const echo = (first: number, last: number, over: Partial<Block> = {}) =>
  block(first, last, { protocol: 'icmp', ...over });

let sockets: FakeSockets;
let placeholders: Placeholders;
beforeEach(() => {
  sockets = new FakeSockets();
  placeholders = new Placeholders({ open: sockets.open, table: sockets, mark: 42, descriptors_max: 10 });
});

describe('an exclusive block', () => {
  it('is held port by port, once, until it is closed', () => {
    expect(placeholders.hold('lease-1', block(9_000, 9_001))).toBeUndefined();
    expect(placeholders.hold('lease-1', block(9_000, 9_001))).toBeUndefined();
    expect(sockets.holdings()).toEqual(['tcp 198.51.100.10:9000', 'tcp 198.51.100.10:9001']);
    expect(placeholders.open).toBe(2);
    placeholders.close('lease-1');
    placeholders.close('lease-1');
    expect(sockets.holdings()).toEqual([]);
    expect(placeholders.open).toBe(0);
  });

  it('is held whole or not at all, and the stranger is named', () => {
    sockets.add(9_002, { uid: 33, state: 'listen', localAddress: '0.0.0.0', remotePort: 0, inode: 777 });
    sockets.owners.set(777, [{ pid: 812, command: 'nginx' }]);
    expect(placeholders.hold('lease-1', block(9_000, 9_003))).toEqual({
      errno: 'EADDRINUSE',
      detail: 'tcp port 9002 of 198.51.100.10: a tcp socket (listen) on 0.0.0.0 port 9002 of user 33: nginx[812]',
    });
    expect(sockets.holdings()).toEqual([]);
    expect(placeholders.open).toBe(0);
  });

  it.each([
    [24, 'EMFILE', /no descriptor left; raise LimitNOFILE/],
    [99, 'EADDRNOTAVAIL', /the address is not on this host/],
    [98, 'EADDRINUSE', /the kernel shows no socket there/],
  ])('says what errno %i means', (errno, name, detail) => {
    sockets.errnoAt.set(9_001, errno);
    const refusal = placeholders.hold('lease-1', block(9_000, 9_001));
    expect(refusal?.errno).toBe(name);
    expect(refusal?.detail).toMatch(detail);
    expect(sockets.holdings()).toEqual([]);
  });

  it('that would take more descriptors than are left is refused before any is taken', () => {
    expect(placeholders.hold('lease-1', block(9_000, 9_007))).toBeUndefined();
    const refusal = placeholders.hold('lease-2', block(9_008, 9_011));
    expect(refusal).toMatchObject({ errno: 'EMFILE' });
    expect(refusal?.detail).toContain('4 placeholders wanted, 8 of 10 are in use');
    placeholders.close('lease-1');
    expect(placeholders.hold('lease-2', block(9_008, 9_011))).toBeUndefined();
  });
});

it('a shared block is not held: there, fish holds 5-tuples', () => {
  expect(placeholders.hold('lease-1', block(9_000, 9_127, { mode: 'shared' }))).toBeUndefined();
  expect(sockets.holdings()).toEqual([]);
});

describe('echo identifiers', () => {
  it('are held once for the whole host, however many leases have them', () => {
    expect(placeholders.hold('lease-1', echo(16, 17))).toBeUndefined();
    expect(placeholders.hold('lease-2', echo(17, 17, { address: address('198.51.100.11') }))).toBeUndefined();
    expect(sockets.holdings()).toEqual(['ping 16', 'ping 17']);
    placeholders.close('lease-1');
    expect(sockets.holdings()).toEqual(['ping 17']);
    placeholders.close('lease-2');
    expect(sockets.holdings()).toEqual([]);
  });

  it('collide with those of other addresses, and the one who has them is named', () => {
    sockets.pings.push({ family: 6, localAddress: '::', identifier: 17, uid: 0, inode: 5 });
    sockets.owners.set(5, [{ pid: 6, command: 'ping' }]);
    expect(placeholders.hold('lease-1', echo(16, 17))).toEqual({
      errno: 'EADDRINUSE',
      detail: 'icmp identifier 17 of 198.51.100.10: a ping socket on :: identifier 17 of user 0: ping[6]',
    });
    expect(sockets.holdings()).toEqual([]);
  });

  it('that one lease shares with another survive a refusal half-way', () => {
    placeholders.hold('lease-1', echo(16, 16));
    sockets.errnoAt.set(17, 13);
    const refusal = placeholders.hold('lease-2', echo(16, 17));
    expect(refusal).toMatchObject({ errno: 'EACCES' });
    expect(refusal?.detail).toContain('ping_group_range');
    expect(sockets.holdings()).toEqual(['ping 16']);
    placeholders.close('lease-1');
    expect(sockets.holdings()).toEqual([]);
  });
});

it('all are closed at the end', () => {
  placeholders.hold('lease-1', block(9_000, 9_001));
  placeholders.hold('lease-2', echo(16, 16));
  placeholders.closeAll();
  expect(sockets.holdings()).toEqual([]);
});
