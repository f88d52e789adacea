import { readdirSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { FishDiedError, startFish, type Fish } from '../../../src/agent/fish/fish.ts';
import { fishConfig, type FishConfig } from '../../../src/fish/config.ts';
import { spanOf } from '../../../src/fish/log/flow-records.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { block, client, shared } from '../../support/fish.ts';
import { translated } from '../../support/naive-nat.ts';
import { build, hexOf, read, tcp, udp, type Endpoint } from '../../support/packets.ts';
import { SocketTun } from '../../support/socket-tun.ts';

const address = '198.51.100.10';
const dns: Endpoint = { address: '203.0.113.1', port: 53 };
const leased: Endpoint = { address, port: 9_000 };
const udpBlock = block(address, 'udp', 9_000, 9_000, { lease: 'lease-1' });

const running: { fish: Fish; tun: SocketTun }[] = [];
async function start(settings: Partial<FishConfig> = {}): Promise<{ fish: Fish; tun: SocketTun }> {
  const tun = new SocketTun();
  const config = fishConfig({ clientPrefixes: ['100.64.0.0/10' as Prefix], vnetHeaderBytes: 0, ...settings });
  if (!config.ok) throw new Error(config.error);
  const fish = await startFish({ config: config.value, tunFd: tun.fd, mark: 0 });
  running.push({ fish, tun });
  return { fish, tun };
}
afterEach(async () => {
  for (const { fish, tun } of running.splice(0)) {
    await fish.stop();
    tun.close();
  }
});

describe('the fish thread', () => {
  test('forwards both ways once it has blocks, and not before', async () => {
    const { fish, tun } = await start();
    const [out, back] = [build(udp(client, dns)), build(udp(dns, leased))];
    tun.send(out);
    expect(await tun.receive(300)).toBeUndefined();
    expect(await fish.setBlocks([udpBlock])).toEqual({ closed: 0, placeholders: 0, added: 1, refused: [] });
    tun.send(out);
    expect(hexOf((await tun.receive())!)).toBe(hexOf(translated(out, 'source', leased)));
    tun.send(back);
    expect(hexOf((await tun.receive())!)).toBe(hexOf(translated(back, 'destination', client)));
    expect(await fish.stats()).toMatchObject({ packetsOut: 1, packetsIn: 1, drops: { no_lease: 1 }, flowsLive: 1 });
  });

  test('forwards a packet of the greatest length', async () => {
    const { fish, tun } = await start();
    await fish.setBlocks([udpBlock]);
    const packet = build(udp(client, dns, { data: new Uint8Array(65_535 - 28).fill(7) }));
    tun.send(packet);
    expect((await tun.receive())?.length).toBe(65_535);
  });

  test('answers for a client whose packet found no port', async () => {
    const { tun } = await start({ icmpSource: '100.96.0.1' as never });
    tun.send(build(tcp(client, dns, 'S')));
    const reply = (await tun.receive())!;
    expect(read(reply)).toMatchObject({ protocol: 1, source: '100.96.0.1', destination: client.address });
    expect([...reply.subarray(20, 22)]).toEqual([3, 13]);
  });

  test('tells which flows there are, and who had a tuple when', async () => {
    const { fish, tun } = await start();
    const beforeMs = Date.now();
    await fish.setBlocks([udpBlock]);
    tun.send(build(udp(client, dns)));
    await tun.receive();
    const { flows, truncated } = await fish.flows({ protocol: 'udp' });
    expect(flows).toMatchObject([{ lease: 'lease-1', client: client.address, port: 9_000, state: 'live' }]);
    expect(truncated).toBe(false);
    expect(await fish.flows({}, 0)).toEqual({ flows: [], truncated: true });
    // By the wall clock, to within the time that all this takes.
    expect(flows[0]!.openedAt).toBeGreaterThanOrEqual((beforeMs - 5) * 1_000);
    expect(flows[0]!.openedAt).toBeLessThanOrEqual((Date.now() + 5) * 1_000);
    const query = { protocol: 'udp', address: address as never, port: 9_000, remote: null, remotePort: null } as const;
    const during = { ...query, at: flows[0]!.openedAt };
    expect(await fish.queryFlowLog(during)).toMatchObject({ verdict: 'match', matches: [{ client: client.address }] });

    expect(await fish.endLease('lease-1')).toMatchObject({ closed: 1 });
    expect(await fish.queryFlowLog(during)).toMatchObject({
      verdict: 'match',
      matches: [{ lease: 'lease-1', client: client.address, ending: 'lease_ended' }],
    });
    expect((await fish.queryFlowLog({ ...query, at: (beforeMs - 10_000) * 1_000 })).verdict).toBe('not_covered');
  });

  test('hands over what has ended, and in its last words what was not read of that', async () => {
    const { fish, tun } = await start();
    await fish.setBlocks([udpBlock]);
    const pass = async () => {
      tun.send(build(udp(client, dns)));
      await tun.receive();
    };
    await pass();
    const none = await fish.endedFlows({ flows: 0, blurs: 0 });
    expect(none).toMatchObject({ missed: 0, live: 1, tookOver: { live: 0, lost: 0 }, next: { flows: 0 } });
    await fish.setBlocks([]);
    const batch = await fish.endedFlows(none.next);
    expect(batch).toMatchObject({ leases: ['lease-1'], live: 0, next: { flows: 1 } });
    expect(spanOf(batch).closed).toBeGreaterThan(spanOf(batch).opened);
    await fish.endedFlows(batch.next);
    await fish.setBlocks([udpBlock]);
    await pass();
    await fish.stop();
    expect(fish.lastWords).toMatchObject([{ live: 0, next: { flows: 2 }, leases: ['lease-1'] }]);
  });

  test('ends everything when it is told so, and goes on with the next blocks', async () => {
    const { fish, tun } = await start();
    await fish.setBlocks([udpBlock]);
    tun.send(build(udp(client, dns)));
    await tun.receive();
    expect(await fish.fence()).toMatchObject({ closed: 1 });
    tun.send(build(udp(client, dns)));
    await expect.poll(async () => (await fish.stats()).drops.fenced, { timeout: 5_000 }).toBe(1);
    expect(await fish.stats()).toMatchObject({ flowsLive: 0, flowsEnded: { fenced: 1 } });
    await fish.setBlocks([udpBlock]);
    tun.send(build(udp(client, dns)));
    expect(await tun.receive()).toBeDefined();
  });

  test('carries out what is asked in order, also all at once', async () => {
    const { fish } = await start();
    const blocks = Array.from({ length: 50 }, (_, i) => block(address, 'tcp', 9_000 + i, 9_000 + i));
    const answers = await Promise.all(blocks.map((_, i) => fish.setBlocks(blocks.slice(0, i + 1))));
    expect(answers.map((each) => each.added)).toEqual(Array(50).fill(1));
    expect((await fish.stats()).blocks).toHaveLength(50);
  });

  test('counts what cannot be written, and goes on', async () => {
    const { fish, tun } = await start();
    await fish.setBlocks([udpBlock]);
    const packet = build(udp(client, dns));
    // Nobody reads the other end, so it fills up.
    for (let round = 0; round < 100 && (await fish.stats()).writesFailed === 0; round++)
      for (let i = 0; i < 20; i++) tun.send(packet);
    expect(await fish.stats()).toMatchObject({ writeErrno: 11 });
    while ((await tun.receive(50)) !== undefined);
    tun.send(packet);
    expect(await tun.receive()).toBeDefined();
  });

  test('ends flows that are due though no packet comes', async () => {
    const timers = {
      tcpEstablishedS: 1,
      tcpOpeningS: 1,
      tcpTransitoryS: 1,
      tcpRestS: 0,
      tcpResetRestS: 0,
      udpS: 1,
      udpRestS: 0,
      icmpS: 1,
      icmpRestS: 0,
    };
    const { fish, tun } = await start({ timers });
    await fish.setBlocks([udpBlock]);
    tun.send(build(udp(client, dns)));
    await tun.receive();
    await expect.poll(async () => (await fish.stats()).flowsEnded.idle, { timeout: 5_000 }).toBe(1);
  });

  test('refuses blocks one by one, with the reason', async () => {
    const { fish } = await start();
    const bad = block('2001:db8::10', 'tcp', 9_000, 9_000);
    expect(await fish.setBlocks([bad, udpBlock])).toMatchObject({
      added: 1,
      refused: [{ block: bad, reason: 'no client prefix is one of IPv6' }],
    });
  });

  test('says which errno the kernel had when a placeholder cannot be opened', async () => {
    const { fish, tun } = await start({ placeholderAttemptsMax: 2 });
    // The address is not on this machine: EADDRNOTAVAIL, as for a taken tuple.
    await fish.setBlocks([block('203.0.113.77', 'tcp', 9_000, 9_007, shared())]);
    tun.send(build(tcp(client, dns, 'S')));
    await expect.poll(async () => (await fish.stats()).drops.no_port).toBe(1);
    expect(await fish.stats()).toMatchObject({ placeholdersTaken: 2, placeholdersHeld: 0 });
  });
});

describe('the end of fish', () => {
  const openDescriptors = () => readdirSync('/proc/self/fd').length;

  test('by stop leaves no descriptor and no thread, and rejects what comes after', async () => {
    const before = openDescriptors();
    const { fish, tun } = await start();
    let died = false;
    void fish.died.then(() => (died = true));
    await Promise.all([fish.stop(), fish.stop()]);
    await fish.stop();
    await expect(fish.stats()).rejects.toThrow(new FishDiedError('fish was stopped'));
    running.splice(0);
    tun.close();
    expect(openDescriptors()).toBe(before);
    expect(died).toBe(false);
  });

  test('when the TUN goes away is told, with the reason, to everybody who waits', async () => {
    const { fish, tun } = await start();
    tun.endOtherSide();
    expect(await fish.died).toBe('the TUN has ended');
    await expect(fish.setBlocks([])).rejects.toThrow(FishDiedError);
    await fish.stop();
  });

  test('when it cannot even start is told to whoever starts it', async () => {
    const config = fishConfig({ clientPrefixes: ['100.64.0.0/10' as Prefix], flowsMax: 16 });
    if (!config.ok) throw new Error(config.error);
    const broken = { ...config.value, clientPrefixes: ['nonsense' as Prefix] };
    await expect(startFish({ config: broken, tunFd: 0, mark: 0 })).rejects.toThrow(FishDiedError);
  });
});
