import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { SocketInfo } from '../../src/sys/sock-diag.ts';
import { createLab, type Lab } from './support/sys-lab.ts';

const here = '198.51.100.10';
const here6 = '2001:db8::10';
const origin = '203.0.113.1';
const origin6 = '2001:db8:f::1';

let lab: Lab;
beforeAll(async () => {
  lab = await createLab('diag');
});
afterAll(() => lab.close());
afterEach(async () => {
  await lab.host.call('closeAll');
  await lab.peer.call('closeAll');
});

const on = (port: number, last = port) => ({ first: port, last });
const tcp = (port: number, family: 4 | 6 = 4, address?: string) =>
  lab.host.call('sockets', { protocol: 'tcp', family, ports: on(port), ...(address === undefined ? {} : { address }) });
const summary = ({ family, state, localAddress, localPort, remoteAddress, remotePort }: SocketInfo) =>
  `${family} ${state} ${localAddress} ${localPort} > ${remoteAddress} ${remotePort}`;

/** The only socket on a port. */
async function one(port: number, family: 4 | 6 = 4): Promise<SocketInfo> {
  const [socket, ...others] = await tcp(port, family);
  if (!socket || others.length > 0) throw new Error(`${others.length + (socket ? 1 : 0)} sockets on port ${port}`);
  return socket;
}

describe('the sockets on a port', () => {
  test('include a listener on all addresses, and one of both families for IPv4 too', async () => {
    const { host } = lab;
    expect(await host.call('plain', { address: '0.0.0.0', port: 9700, listen: true })).toBe('open');
    expect((await tcp(9700)).map(summary)).toEqual(['4 listen 0.0.0.0 9700 > 0.0.0.0 0']);
    expect(await tcp(9700, 6)).toEqual([]);
    expect(await host.call('plain', { address: '::', port: 9701, listen: true })).toBe('open');
    for (const family of [4, 6] as const)
      expect((await tcp(9701, family)).map(summary)).toEqual(['6 listen :: 9701 > :: 0']);
    expect(await host.call('plain', { address: '::', port: 9702, listen: true, ipv6Only: true })).toBe('open');
    expect(await tcp(9702, 4)).toEqual([]);
    expect((await tcp(9702, 6)).map(summary)).toEqual(['6 listen :: 9702 > :: 0']);
  });

  test('include established ones, with user, mark and inode, of IPv4, IPv6 and IPv4 on an IPv6 socket', async () => {
    const { host, peer } = lab;
    await peer.call('listen', '::', 443);
    expect(await host.call('plain', { address: here, port: 9710, remote: [origin, 443] })).toBe('open');
    expect(await host.call('plain', { address: here6, port: 9711, remote: [origin6, 443] })).toBe('open');
    expect(await host.call('plain', { address: `::ffff:${here}`, port: 9712, remote: [`::ffff:${origin}`, 443] })).toBe(
      'open',
    );
    const socket = await one(9710);
    expect(summary(socket)).toBe(`4 established ${here} 9710 > ${origin} 443`);
    expect(socket).toMatchObject({ uid: 0, mark: 0 });
    expect(socket.inode).toBeGreaterThan(0);
    expect(summary(await one(9711, 6))).toBe(`6 established ${here6} 9711 > ${origin6} 443`);
    expect(summary(await one(9712))).toBe(`4 established ${here} 9712 > ${origin} 443`);
    expect(await tcp(9712, 6)).toEqual([]);
  });

  test('include placeholders of every kind', async () => {
    const { host } = lab;
    await host.call('openBound', here, 9720, 'tcp', 0x2a);
    await host.call('openBound', here6, 9720, 'tcp', 0);
    await host.call('openBound', here, 9720, 'udp', 0);
    await host.call('openConnected', here, 9721, origin, 443, 'late', 0x2a);
    const bound = await one(9720);
    expect(summary(bound)).toBe(`4 bound ${here} 9720 > 0.0.0.0 0`);
    expect(bound.mark).toBe(0x2a);
    expect(summary(await one(9720, 6))).toBe(`6 bound ${here6} 9720 > :: 0`);
    const connected = await one(9721);
    expect(summary(connected)).toBe(`4 syn-sent ${here} 9721 > ${origin} 443`);
    expect(connected.mark).toBe(0x2a);
    const udp = await host.call('sockets', { protocol: 'udp', family: 4, ports: on(9720) });
    expect(udp.map(summary)).toEqual([`4 bound ${here} 9720 > 0.0.0.0 0`]);
  });

  test('include connected UDP sockets', async () => {
    await lab.host.call('plain', { address: here6, port: 9725, protocol: 'udp', remote: [origin6, 53] });
    const udp = await lab.host.call('sockets', { protocol: 'udp', family: 6, ports: on(9725) });
    expect(udp.map(summary)).toEqual([`6 established ${here6} 9725 > ${origin6} 53`]);
  });

  test('include TIME_WAIT, which belongs to nobody', async () => {
    await timeWait(9730);
    const socket = await one(9730);
    expect(summary(socket)).toBe(`4 time-wait ${here} 9730 > ${origin} 443`);
    expect(socket.inode).toBe(0);
    expect(await lab.host.call('processesOf', [0])).toEqual(new Map());
  });

  test('are those inside the range and no others, its ends included', async () => {
    for (const port of [1, 9739, 9740, 9745, 9750, 9751, 65_535])
      expect(await lab.host.call('openBound', here, port, 'tcp')).toBe('open');
    const ports = async (first: number, last: number) => {
      const q = { protocol: 'tcp', family: 4, ports: on(first, last) } as const;
      return (await lab.host.call('sockets', q)).map(({ localPort }) => localPort).toSorted((a, b) => a - b);
    };
    expect(await ports(9740, 9750)).toEqual([9740, 9745, 9750]);
    expect(await ports(9741, 9744)).toEqual([]);
    expect(await ports(9745, 9745)).toEqual([9745]);
    expect(await ports(0, 1)).toEqual([1]);
    expect(await ports(65_535, 65_535)).toEqual([65_535]);
    expect(await ports(0, 65_535)).toEqual(expect.arrayContaining([1, 9739, 9740, 9745, 9750, 9751, 65_535]));
  });

  test('with an address are those that have it or all addresses', async () => {
    const { host } = lab;
    await host.call('openBound', here, 9760, 'tcp');
    await host.call('openBound', '198.51.100.11', 9760, 'tcp');
    await host.call('plain', { address: '::', port: 9761, listen: true });
    expect((await tcp(9760, 4, here)).map(({ localAddress }) => localAddress)).toEqual([here]);
    expect((await tcp(9760)).length).toBe(2);
    expect((await tcp(9761, 4, here)).map(({ localAddress }) => localAddress)).toEqual(['::']);
    expect((await tcp(9761, 6, here6)).map(({ localAddress }) => localAddress)).toEqual(['::']);
  });

  test('are all there when there are thousands, more than one read can hold', async () => {
    expect(await lab.host.call('openMany', here, 9770, origin, 3000)).toBe(3000);
    const sockets = await tcp(9770);
    expect(new Set(sockets.map(({ remotePort }) => remotePort)).size).toBe(3000);
    expect(sockets.every(({ state, mark }) => state === 'syn-sent' && mark === 7)).toBe(true);
  });
});

test('every process that has a socket open is found, and none that has not', async () => {
  await lab.host.call('openBound', here, 9780, 'tcp');
  const { inode } = await one(9780);
  const pid = await lab.host.call('ready');
  const first = { pid, command: lab.host.shell(`cat /proc/${pid}/comm`) };
  expect([...(await lab.host.call('processesOf', [inode, 1]))]).toEqual([[inode, [first]]]);
  const second = { pid: await lab.host.call('shareLast'), command: 'sleep' };
  const owners = await lab.host.call('processesOf', [inode]);
  expect(owners.get(inode)?.toSorted((a, b) => a.pid - b.pid)).toEqual([first, second]);
});

test('ping sockets are listed by identifier, in both families', async () => {
  await lab.host.call('sysctl', 'net.ipv4.ping_group_range', '0 0');
  for (const [address, identifier] of [
    [here, 4000],
    [here6, 4001],
    [here, 4002],
  ] as const)
    expect(await lab.host.call('openPing', address, identifier)).toBe('open');
  const found = await lab.host.call('pingSockets', 4000, 4001);
  expect(found.map(({ inode: _, ...rest }) => rest)).toEqual([
    { family: 4, localAddress: here, identifier: 4000, uid: 0 },
    { family: 6, localAddress: here6, identifier: 4001, uid: 0 },
  ]);
  const pid = await lab.host.call('ready');
  expect((await lab.host.call('processesOf', [found[0]!.inode])).get(found[0]!.inode)?.[0]?.pid).toBe(pid);
});

describe('destroying a socket', () => {
  test('aborts an established one: its owner is told, its peer is reset, and nobody else is touched', async () => {
    const { host, peer } = lab;
    await peer.call('listen', origin, 443);
    await host.call('plain', { address: here, port: 9791, remote: [origin, 443] });
    await host.call('plain', { address: here, port: 9790, remote: [origin, 443] });
    expect(lab.peer.shell(`ss -Htn state established sport = :443 | wc -l`)).toBe('2');
    const socket = await one(9790);
    expect(await host.call('destroy', socket)).toBe(0);
    expect(await host.call('readLast')).toBe('ECONNABORTED');
    expect(lab.peer.shell(`ss -Htn state established sport = :443 | wc -l`)).toBe('1');
    expect(summary(await one(9791))).toContain('established');
    // Its port was bound explicitly: it stays held until the owner lets go.
    expect(summary(await one(9790))).toBe(`4 bound ${here} 9790 > ${origin} 443`);
    expect(await host.call('openBound', here, 9790, 'tcp')).toBe('EADDRINUSE');
    // The cookie names that connection, not whatever has its port now.
    expect(await host.call('destroy', socket)).toBe(-2);
  });

  test('removes a placeholder without a word to anybody, and frees its 5-tuple', async () => {
    const { host } = lab;
    await host.call('openConnected', here6, 9795, origin6, 443, 'late');
    expect(await host.call('destroy', await one(9795, 6))).toBe(0);
    expect(await tcp(9795, 6)).toEqual([]);
    expect(await host.call('openConnected', here6, 9795, origin6, 443, 'late')).toBe('open');
  });

  test('removes a TIME_WAIT, so that the port can be bound at once', async () => {
    await timeWait(9796);
    expect(await lab.host.call('openBound', here, 9796, 'tcp')).toBe('EADDRINUSE');
    expect(await lab.host.call('destroy', await one(9796))).toBe(0);
    expect(await lab.host.call('openBound', here, 9796, 'tcp')).toBe('open');
  });

  test('works on an IPv4 connection of an IPv6 socket', async () => {
    await lab.peer.call('listen', origin, 443);
    await lab.host.call('plain', { address: `::ffff:${here}`, port: 9797, remote: [`::ffff:${origin}`, 443] });
    expect(await lab.host.call('destroy', await one(9797))).toBe(0);
    expect(await lab.host.call('readLast')).toBe('ECONNABORTED');
  });

  test('does not work on a socket that is bound and nothing else', async () => {
    await lab.host.call('openBound', here, 9798, 'tcp');
    expect(await lab.host.call('destroy', await one(9798))).toBe(-2);
  });
});

test('a thousand of these objects leave no descriptor behind', async () => {
  expect(await lab.host.call('diagLeak', 1000)).toBe(0);
});

/** Leaves a TIME_WAIT of a connection to the peer on a local port: this side closes first. */
async function timeWait(port: number): Promise<void> {
  await lab.peer.call('listen', origin, 443);
  await lab.host.call('plain', { address: here, port, remote: [origin, 443] });
  await lab.host.call('closeLast');
  for (let attempt = 0; attempt < 100 && (await one(port)).state !== 'time-wait'; attempt++) await sleep(20);
}
