import { fstatSync, readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startFish, type Fish } from '../../../src/agent/fish/fish.ts';
import { FishPlace } from '../../../src/agent/fish/fish-place.ts';
import { KeptSockets } from '../../../src/agent/fish/kept-sockets.ts';
import type { KeptFlows } from '../../../src/agent/fish/operations.ts';
import { fishConfig, type FishConfig } from '../../../src/fish/config.ts';
import { memorySizes } from '../../../src/fish/forwarder.ts';
import { kinds, singletons } from '../../../src/keeper/protocol.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { createSharedMemory, viewOfMapping } from '../../../src/sys/shared-memory.ts';
import type { TcpNames } from '../../../src/sys/placeholder-check.ts';
import { block, client } from '../../support/fish.ts';
import { TestKeeper } from '../../support/fish-keeping.ts';
import { translated } from '../../support/naive-nat.ts';
import { build, hexOf, udp, type Endpoint } from '../../support/packets.ts';
import { SocketTun } from '../../support/socket-tun.ts';

const address = '198.51.100.10';
const dns: Endpoint = { address: '203.0.113.1', port: 53 };
const leased: Endpoint = { address, port: 9_000 };
const udpBlock = block(address, 'udp', 9_000, 9_000, { lease: 'lease-1' });
const openDescriptors = () => readdirSync('/proc/self/fd').length;

let keeper: TestKeeper;
beforeEach(async () => {
  keeper = await TestKeeper.start();
}, 30_000);
afterEach(() => keeper.end());

const warnings: string[] = [];
const log = {
  info: () => {},
  warn: (...said: readonly unknown[]) => void warnings.push(String(said.at(-1))),
};
const placeOf = () => new FishPlace({ tun: 'fk-none', neighbours: [], queue_packets: 500, keeping: keeper, log });
const configOf = (settings: Partial<FishConfig> = {}): FishConfig => {
  const config = fishConfig({
    clientPrefixes: ['100.64.0.0/10' as Prefix],
    vnetHeaderBytes: 0,
    flowsMax: 64,
    ...settings,
  });
  if (!config.ok) throw new Error(config.error);
  return config.value;
};
const startOn = (tun: SocketTun, kept: KeptFlows): Promise<Fish> =>
  startFish({ config: configOf(), tunFd: tun.fd, mark: 0, kept });

describe('fish with a keeper', () => {
  test.each(['is stopped for a successor', 'dies'] as const)(
    'that %s leaves its flows, and the next one goes on',
    async (how) => {
      const place = placeOf();
      const kept = place.openFlows(memorySizes(configOf()))!;
      const [first, second] = [new SocketTun(), new SocketTun()];
      const fish = await startOn(first, kept);
      await fish.setBlocks([udpBlock]);
      first.send(build(udp(client, dns)));
      await first.receive();
      const before = await fish.flows();
      if (how === 'dies') {
        first.endOtherSide();
        await fish.died;
      } else await fish.stop({ leave: true });
      place.close({ leave: true });

      // Another process, which knows the keeper and nothing else.
      const next = placeOf();
      const successor = await startOn(second, next.openFlows(memorySizes(configOf()))!);
      const back = build(udp(dns, leased));
      second.send(back);
      expect(hexOf((await second.receive())!)).toBe(hexOf(translated(back, 'destination', client)));
      expect((await successor.flows()).flows[0]).toMatchObject({ lease: 'lease-1', port: 9_000 });
      // By the clock of the machine; the wall clock may have been set a little meanwhile.
      expect(Math.abs((await successor.flows()).flows[0]!.openedAt - before.flows[0]!.openedAt)).toBeLessThan(
        1_000_000,
      );
      expect((await successor.stats()).adoption).toMatchObject({ flows: 1, damaged: 0 });
      await successor.stop();
      next.close({ leave: false });
      expect(keeper.takeKept(singletons.flowTable)).toBeUndefined();
      first.close();
      second.close();
    },
  );

  test('that is stopped for good leaves no flow', async () => {
    const place = placeOf();
    const kept = place.openFlows(memorySizes(configOf()))!;
    const tun = new SocketTun();
    const fish = await startOn(tun, kept);
    await fish.setBlocks([udpBlock]);
    tun.send(build(udp(client, dns)));
    await tun.receive();
    await fish.stop();
    const again = await startOn(tun, kept);
    expect((await again.stats()).adoption).toMatchObject({ flows: 0 });
    await again.stop();
    tun.close();
    place.close({ leave: false });
  });

  test('says why when the keeper is not there', async () => {
    const kept = {
      ...placeOf().openFlows(memorySizes(configOf()))!,
      keepers: [{ number: 0, path: '/nowhere/keeper.sock', flows_max: 1 }],
    };
    const tun = new SocketTun();
    await expect(startOn(tun, kept)).rejects.toThrow('/nowhere/keeper.sock');
    tun.close();
  });
});

describe("fish's flow table", () => {
  const sizes = memorySizes(configOf());
  const headerOf = (kept: KeptFlows | null) => new Uint32Array(viewOfMapping(kept!.memory), 0, 8);

  test('is the same one for a successor, moved when the settings want another size, and then still itself', () => {
    const first = placeOf().openFlows(sizes);
    const identity = [...headerOf(first).subarray(5, 7)];
    expect(identity).not.toEqual([0, 0]);
    const second = placeOf().openFlows(sizes);
    headerOf(second)[7] = 41;
    expect(headerOf(first)[7]).toBe(41);
    const larger = placeOf().openFlows({ ...sizes, flowsMax: 128 });
    expect([...headerOf(larger)].slice(2, 7)).toEqual([128, sizes.blocksMax, 0, ...identity]);
    // That one is in the keeper now.
    const last = placeOf().openFlows({ ...sizes, flowsMax: 128 });
    headerOf(last)[7] = 42;
    expect(headerOf(larger)[7]).toBe(42);
  });

  test('of another version is replaced, with a warning', () => {
    const first = placeOf().openFlows(sizes);
    const version = headerOf(first)[1];
    headerOf(first)[1] = 99;
    warnings.length = 0;
    expect(headerOf(placeOf().openFlows(sizes))[1]).toBe(version);
    expect(warnings).toEqual([
      `the flows of a former fish are lost: its layout is version 99, and this is version ${version}`,
    ]);
  });

  test('that is discarded is followed by another', () => {
    const place = placeOf();
    const identity = [...headerOf(place.openFlows(sizes)).subarray(5, 7)];
    place.discardFlows();
    expect([...headerOf(place.openFlows(sizes)).subarray(5, 7)]).not.toEqual(identity);
  });

  test('without a TUN is no reason to begin early, and costs no descriptor', () => {
    const before = openDescriptors();
    const place = placeOf();
    expect(place.hasFlows()).toBe(false);
    place.openFlows(sizes);
    expect(place.hasFlows()).toBe(false);
    // Something in the TUN's place that is none is thrown out.
    const fd = createSharedMemory('no TUN', 4_096);
    keeper.keep(singletons.tun, new Uint8Array(28), fd);
    expect(place.hasFlows()).toBe(false);
    expect(keeper.takeKept(singletons.tun)).toBeUndefined();
    place.close({ leave: false });
    expect(openDescriptors()).toBe(before + 1);
  });

  test('without a keeper there is none', () => {
    const place = new FishPlace({ tun: 'fk-none', neighbours: [], queue_packets: 500, keeping: null, log });
    expect([place.openFlows(sizes), place.hasFlows()]).toEqual([null, false]);
    place.discardFlows();
    place.close({ leave: false });
  });
});

describe('kept placeholders', () => {
  const tuple = [0xc633640a, 9_000, 0xcb007101, 443] as const;
  const other = [0xc633640a, 9_001, 0xcb007101, 443] as const;
  const local6 = Uint8Array.of(0x20, 1, 0xd, 0xb8, ...new Uint8Array(11), 1);
  const remote6 = Uint8Array.of(0x20, 1, 0xd, 0xb8, 0xf, ...new Uint8Array(10), 1);
  /** The kernel: what each socket, a file of its own here, holds and is marked with. */
  const tuples = new Map<number, TcpNames & Readonly<{ mark: number }>>();
  let answer = 0;
  let mark = 42;
  function socket(names: TcpNames): number {
    if (answer < 0) return answer;
    const fd = createSharedMemory('socket', 4_096);
    tuples.set(fstatSync(fd).ino, { ...names, mark });
    return fd;
  }
  const bytesOf = (address: number) => Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);
  const sockets = (
    identity: readonly [number, number] = [1, 2],
    keepers: ConstructorParameters<typeof KeptSockets>[0]['keepers'] = [
      { number: 0, keeper: keeper.client, flows_max: 1_000 },
    ],
  ) =>
    new KeptSockets({
      keepers,
      identity,
      mark: 42,
      open: (address, port, remote, remotePort) =>
        socket({ local: bytesOf(address), port, remote: bytesOf(remote), remotePort }),
      open6: (address, port, remote, remotePort) =>
        socket({ local: address.slice(), port, remote: remote.slice(), remotePort }),
      namesOf: (fd, wanted) => {
        const found = tuples.get(fstatSync(fd).ino);
        return found?.mark === wanted ? found : undefined;
      },
    });
  beforeEach(() => {
    answer = 0;
    mark = 42;
    tuples.clear();
  });

  test('are in the keeper when they were delivered, and leave nothing open here', () => {
    const before = openDescriptors();
    const held = sockets();
    const handles = Array.from({ length: 300 }, (_, i) => held.open(tuple[0], 9_000 + i, tuple[2], 443, 'late'));
    expect(new Set(handles).size).toBe(300);
    // One message carries 253.
    expect([held.undelivered, keeper.flows, openDescriptors()]).toEqual([47, 253, before + 47]);
    held.deliver();
    expect([held.undelivered, keeper.flows, openDescriptors()]).toEqual([0, 300, before]);
    for (const handle of handles) held.close(handle);
    held.confirm();
    expect([keeper.flows, openDescriptors()]).toEqual([0, before]);
  });

  test('are not lost when their slot is used again at once', () => {
    const held = sockets();
    const first = held.open(...tuple, 'late');
    held.close(first);
    expect(held.open(...other, 'late')).toBe(first);
    held.confirm();
    expect(keeper.flows).toBe(1);
  });

  test('go to the next keeper when one has its share, and say so when all have', async () => {
    const second = await TestKeeper.start();
    // Numbers as they are when the one between has died.
    const both = [keeper, second].map(({ client: own }, i) => ({ number: i * 2, keeper: own, flows_max: 2 }));
    const make = () => sockets([1, 2], both);
    const held = make();
    const wanted = [1, 2, 3, 4].map((port) => [tuple[0], port, tuple[2], 443] as const);
    const handles = wanted.map((each) => held.open(...each, 'late'));
    held.deliver();
    expect([keeper.flows, second.flows]).toEqual([2, 2]);
    const before = openDescriptors();
    expect(held.open(...other, 'late')).toBe(-24);
    expect(openDescriptors()).toBe(before);
    held.close(handles[3]!);
    expect(held.open(...wanted[3]!, 'late')).toBe(handles[3]);
    held.deliver();

    const next = make();
    expect(wanted.map((each, i) => next.adopt(handles[i]!, ...each))).toEqual([true, true, true, true]);
    expect(next.settle()).toBe(0);
    for (const handle of handles) next.close(handle);
    next.confirm();
    expect([keeper.flows, second.flows]).toEqual([0, 0]);
    second.end();
  }, 30_000);

  test('that the kernel refuses are told by errno, and take no slot', () => {
    const held = sockets();
    answer = -99;
    expect(held.open(...tuple, 'late')).toBe(-99);
    answer = 0;
    expect(held.open(...tuple, 'late')).toBe(0);
  });

  test('are taken over once, by tuple and table, and what nobody takes over is closed', () => {
    const first = sockets();
    const [mine, left] = [first.open(...tuple, 'late'), first.open(...other, 'late')];
    first.deliver();
    const next = sockets();
    expect(next.adopt(mine, ...other)).toBe(false);
    expect(next.adopt(mine, ...tuple)).toBe(true);
    expect(next.adopt(mine, ...tuple)).toBe(false);
    expect(next.adopt(77, ...tuple)).toBe(false);
    // A slot that is still in question is not given to anybody.
    expect([mine, left]).not.toContain(next.open(0xc633640b, 1, 1, 1, 'late'));
    expect(next.settle()).toBe(1);
    next.confirm();
    expect(keeper.flows).toBe(2);
    const foreign = sockets([1, 3]);
    expect(foreign.adopt(mine, ...tuple)).toBe(false);
    expect(foreign.settle()).toBe(2);
  });

  test('are taken over by what the kernel says they are: the others are closed first, and can be had anew', () => {
    const first = sockets();
    const six = [local6, 9_002, remote6, 443] as const;
    const handles = [first.open(...tuple, 'late'), first.open(...other, 'late'), first.open6(...six, 'late')];
    const [mine, elsewhere, sixth] = handles as [number, number, number];
    first.deliver();
    const records = new Map([...keeper.client.list(kinds.flow)].map(({ slot, record }) => [slot, record]));
    const misplace = (slot: number, names: TcpNames | undefined) => {
      const fd = names ? socket(names) : createSharedMemory('no socket', 4_096);
      expect(keeper.client.put(kinds.flow, slot, records.get(slot)!, fd)).toBe(0);
      closeFd(fd);
    };
    const named = { local: bytesOf(other[0]), port: 9_001, remote: bytesOf(0xcb007102), remotePort: 443 };
    // Of another remote, of another address, no socket of TCP at all, and one with another mark.
    misplace(elsewhere, named);
    misplace(sixth, { local: local6, port: 9_002, remote: local6, remotePort: 443 });
    const [lost, strange] = [first.open(...tuple, 'late'), first.open(...tuple, 'late')];
    first.deliver();
    for (const { slot, record } of keeper.client.list(kinds.flow)) records.set(slot, record);
    misplace(lost, undefined);
    mark = 7;
    misplace(strange, { ...named, port: 9_000, remote: bytesOf(tuple[2]) });
    mark = 42;
    expect(keeper.flows).toBe(5);

    const before = openDescriptors();
    const next = sockets();
    expect([next.disbelieved, openDescriptors()]).toEqual([4, before]);
    expect(next.adopt(elsewhere, ...other)).toBe(false);
    expect(next.adopt6(sixth, ...six)).toBe(false);
    expect(next.adopt(lost, ...tuple)).toBe(false);
    expect(next.adopt(mine, ...tuple)).toBe(true);
    // Their slots are free again, which is no danger to what is put there next.
    const anew = [next.open(...other, 'late'), next.open6(...six, 'late')];
    next.confirm();
    expect(next.settle()).toBe(0);
    expect(keeper.flows).toBe(3);
    const last = sockets();
    expect(last.disbelieved).toBe(0);
    expect(last.adopt(anew[0]!, ...other)).toBe(true);
    expect(last.adopt6(anew[1]!, ...six)).toBe(true);
  });

  test('are nothing to go on with when the keeper is gone', () => {
    const held = sockets();
    held.open(...tuple, 'late');
    held.deliver();
    const before = openDescriptors();
    keeper.client.end();
    held.open(...other, 'late');
    expect(() => held.deliver()).toThrow(/the keeper at .* is lost/);
    // The connection is closed, too.
    expect(openDescriptors()).toBeLessThan(before);
  });
});
