import { beforeEach, describe, expect, it } from 'vitest';
import type { Keepers } from '../../../src/agent/placeholders/keepers.ts';
import type { Placeholders } from '../../../src/agent/placeholders/placeholders.ts';
import type { Block } from '../../../src/agent/host/sets.ts';
import { endsWithThis } from '../../../src/agent/start/start-keepers.ts';
import { kinds } from '../../../src/keeper/protocol.ts';
import { address } from '../../support/fake-host.ts';
import { FakeKeepers, placeholdersIn } from '../../support/fake-keepers.ts';
import { FakeSockets } from '../../support/fake-sockets.ts';
import { containing } from '../../support/matchers.ts';

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
let host: FakeKeepers;
let placeholders: Placeholders;
let keepers: Keepers;
const begin = async () => ({ placeholders, keepers } = await placeholdersIn(host, { bound_max: 100 }));
beforeEach(async () => {
  sockets = new FakeSockets();
  host = new FakeKeepers(sockets, 10);
  await begin();
});
/** Descriptors that this process has open itself: none, ever, between two calls. */
const ownDescriptors = () => sockets.held.size - host.counts().reduce((sum, count) => sum + count, 0);

describe('an exclusive block', () => {
  it('is held port by port, once, until it is closed, and its sockets are in the keeper alone', async () => {
    expect(await placeholders.hold('lease-1', block(9_000, 9_001))).toBeUndefined();
    expect(await placeholders.hold('lease-1', block(9_000, 9_001))).toBeUndefined();
    expect(sockets.holdings()).toEqual(['tcp 198.51.100.10:9000', 'tcp 198.51.100.10:9001']);
    expect(placeholders.open).toBe(2);
    expect(ownDescriptors()).toBe(0);
    await placeholders.close('lease-1');
    await placeholders.close('lease-1');
    expect(sockets.held.size).toBe(0);
    expect(placeholders.open).toBe(0);
  });

  it('is held over IPv6, beside the same ports over IPv4', async () => {
    const v6 = block(9_000, 9_000, { address: address('2001:db8::10'), protocol: 'udp' });
    expect(await placeholders.hold('lease-1', v6)).toBeUndefined();
    expect(await placeholders.hold('lease-2', block(9_000, 9_000, { protocol: 'udp' }))).toBeUndefined();
    expect(sockets.holdings()).toEqual(['udp 198.51.100.10:9000', 'udp 2001:db8::10:9000']);
  });

  it('is held whole or not at all, and the stranger is named', async () => {
    sockets.add(9_002, { uid: 33, state: 'listen', localAddress: '0.0.0.0', remotePort: 0, inode: 777 });
    sockets.owners.set(777, [{ pid: 812, command: 'nginx' }]);
    expect(await placeholders.hold('lease-1', block(9_000, 9_003))).toEqual({
      errno: 'EADDRINUSE',
      detail: 'tcp port 9002 of 198.51.100.10: a tcp socket (listen) on 0.0.0.0 port 9002 of user 33: nginx[812]',
    });
    expect(sockets.held.size).toBe(0);
    expect(placeholders.open).toBe(0);
    expect(host.counts()).toEqual([0]);
  });

  it.each([
    [24, 'EMFILE', /no descriptor left; raise LimitNOFILE/],
    [105, 'ENOBUFS', /the kernel has no memory left/],
    [99, 'EADDRNOTAVAIL', /the address is not on this host/],
    [98, 'EADDRINUSE', /the kernel shows no socket there/],
  ])('says what errno %i means', async (errno, name, detail) => {
    sockets.errnoAt.set(9_001, errno);
    const refusal = await placeholders.hold('lease-1', block(9_000, 9_001));
    expect(refusal?.errno).toBe(name);
    expect(refusal?.detail).toMatch(detail);
    expect(sockets.held.size).toBe(0);
  });

  it('that would take more than there may be is refused before any is taken', async () => {
    expect(await placeholders.hold('lease-1', block(9_000, 9_097))).toBeUndefined();
    const refusal = await placeholders.hold('lease-2', block(9_100, 9_103));
    expect(refusal).toMatchObject({ errno: 'EMFILE' });
    expect(refusal?.detail).toBe('4 placeholders wanted, 98 of 100 are in use: claim less');
    await placeholders.close('lease-1');
    expect(await placeholders.hold('lease-2', block(9_100, 9_103))).toBeUndefined();
  });

  it('of more ports than one keeper has descriptors is spread over several', async () => {
    expect(await placeholders.hold('lease-1', block(9_000, 9_024))).toBeUndefined();
    expect(host.counts()).toEqual([10, 10, 5]);
    await placeholders.close('lease-1');
    expect(host.counts()).toEqual([0, 0, 0]);
    expect(await placeholders.hold('lease-2', block(9_000, 9_029))).toBeUndefined();
    expect(host.counts()).toEqual([10, 10, 10]);
    expect(host.started).toBe(3);
  });

  it('is not held, and not refused either, while a keeper that it needs cannot be started', async () => {
    host.problem = 'no program';
    await expect(placeholders.hold('lease-1', block(9_000, 9_010))).rejects.toThrow(
      'there is no keeper for 11 more placeholders: no program',
    );
    expect(sockets.held.size).toBe(0);
    host.problem = undefined;
    expect(await placeholders.hold('lease-1', block(9_000, 9_010))).toBeUndefined();
  });

  it('is not half held when the keeper dies in between', async () => {
    host.running.get(0)?.die();
    await expect(placeholders.hold('lease-1', block(9_000, 9_003))).rejects.toThrow('is lost');
    expect(sockets.held.size).toBe(0);
    await placeholders.restore();
    expect(await placeholders.hold('lease-1', block(9_000, 9_003))).toBeUndefined();
    expect(sockets.holdings()).toHaveLength(4);
  });
});

it('a shared block is not held: there, fish holds 5-tuples', async () => {
  expect(await placeholders.hold('lease-1', block(9_000, 9_127, { mode: 'shared' }))).toBeUndefined();
  expect(sockets.holdings()).toEqual([]);
});

describe('echo identifiers', () => {
  it('are held once for the whole host, however many leases have them', async () => {
    expect(await placeholders.hold('lease-1', echo(16, 17))).toBeUndefined();
    expect(await placeholders.hold('lease-2', echo(17, 17, { address: address('198.51.100.11') }))).toBeUndefined();
    expect(sockets.holdings()).toEqual(['ping 16', 'ping 17']);
    await placeholders.close('lease-1');
    expect(sockets.holdings()).toEqual(['ping 17']);
    await placeholders.close('lease-2');
    expect(sockets.holdings()).toEqual([]);
  });

  it('collide with those of other addresses, and the one who has them is named', async () => {
    sockets.pings.push({ family: 6, localAddress: '::', identifier: 17, uid: 0, inode: 5 });
    sockets.owners.set(5, [{ pid: 6, command: 'ping' }]);
    expect(await placeholders.hold('lease-1', echo(16, 17))).toEqual({
      errno: 'EADDRINUSE',
      detail: 'icmp identifier 17 of 198.51.100.10: a ping socket on :: identifier 17 of user 0: ping[6]',
    });
    expect(sockets.holdings()).toEqual([]);
  });

  it('that one lease shares with another survive a refusal half-way', async () => {
    await placeholders.hold('lease-1', echo(16, 16));
    sockets.errnoAt.set(17, 13);
    const refusal = await placeholders.hold('lease-2', echo(16, 17));
    expect(refusal).toMatchObject({ errno: 'EACCES' });
    expect(refusal?.detail).toContain('ping_group_range');
    expect(sockets.holdings()).toEqual(['ping 16']);
    await placeholders.close('lease-1');
    expect(sockets.holdings()).toEqual([]);
  });
});

describe('what a killed agent left', () => {
  /** The agent is gone without a word; another begins. */
  const successor = async () => {
    for (const keeper of host.running.values()) keeper.cut();
    await begin();
  };
  /** Which socket each port has, so that one opened anew would show. */
  const inodes = () => new Map([...sockets.held].map(([fd, what]) => [what, fd]));

  it('is taken over by the leases that need it, not opened again, and never let go meanwhile', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_014));
    await placeholders.hold('lease-2', echo(16, 17));
    const before = inodes();
    await successor();
    expect(placeholders.open).toBe(17);
    placeholders.keepOnly([block(9_000, 9_014), echo(16, 17)]);
    // Under other names, as a session that was begun anew would have them.
    expect(await placeholders.hold('lease-7', block(9_000, 9_014))).toBeUndefined();
    expect(await placeholders.hold('lease-8', echo(16, 17, { address: address('198.51.100.11') }))).toBeUndefined();
    placeholders.keepOnly([]);
    expect(inodes()).toEqual(before);
    await placeholders.close('lease-7');
    await placeholders.close('lease-8');
    expect(sockets.held.size).toBe(0);
  });

  it('is closed where no lease needs it, and completed where something is missing', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    await placeholders.hold('lease-2', block(9_100, 9_101));
    await successor();
    placeholders.keepOnly([block(9_002, 9_005), block(9_100, 9_101, { mode: 'shared' })]);
    expect(sockets.holdings()).toEqual(['tcp 198.51.100.10:9002', 'tcp 198.51.100.10:9003']);
    expect(await placeholders.hold('lease-3', block(9_002, 9_005))).toBeUndefined();
    expect(sockets.holdings().map((what) => what.slice(-4))).toEqual(['9002', '9003', '9004', '9005']);
    expect(placeholders.open).toBe(4);
  });

  it('and no lease asks for after all is closed in the end', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    await successor();
    placeholders.keepOnly([block(9_000, 9_003)]);
    expect(sockets.holdings()).toHaveLength(4);
    placeholders.keepOnly([]);
    expect(sockets.held.size).toBe(0);
    expect(host.counts()).toEqual([0]);
  });

  it('is all given up with a block of which a port is somebody else’s by now', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_001));
    await successor();
    sockets.add(9_002);
    placeholders.keepOnly([block(9_000, 9_003)]);
    expect(await placeholders.hold('lease-1', block(9_000, 9_003))).toMatchObject({ errno: 'EADDRINUSE' });
    expect(sockets.held.size).toBe(0);
  });

  it('is closed when it is of a kind that this version does not know', async () => {
    const fd = sockets.open.openPing(Uint8Array.of(198, 51, 100, 10), 99);
    keepers.put([{ record: new Uint8Array(28).fill(9), fd }]);
    sockets.open.closeFd(fd);
    await successor();
    expect(sockets.held.size).toBe(0);
  });

  it('and is not what its record says is closed and opened anew, counted, and the rest is left alone', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    await placeholders.hold('lease-2', echo(16, 17));
    const kept = [...(host.running.get(0)?.kept[kinds.bound]?.values() ?? [])];
    // Another port under the record of 9001, another identifier under that of 16.
    for (const [index, other] of [
      [1, 'tcp 198.51.100.10:9900'],
      [4, 'ping 999'],
    ] as const)
      sockets.held.set(kept[index]!.fd, other);
    const before = inodes();
    await successor();
    expect(placeholders).toMatchObject({ open: 4, disbelieved: 2 });
    expect(ownDescriptors()).toBe(0);
    placeholders.keepOnly([block(9_000, 9_003), echo(16, 17)]);
    expect(await placeholders.hold('lease-1', block(9_000, 9_003))).toBeUndefined();
    expect(await placeholders.hold('lease-2', echo(16, 17))).toBeUndefined();
    expect(sockets.holdings()).toEqual([
      ...['ping 16', 'ping 17'],
      ...[0, 1, 2, 3].map((at) => `tcp 198.51.100.10:900${at}`),
    ]);
    for (const what of ['tcp 198.51.100.10:9000', 'ping 17']) expect(inodes().get(what)).toBe(before.get(what));
  });

  it('costs a new keeper nothing: slots that are taken are not handed out again', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    await placeholders.hold('lease-2', block(9_100, 9_102));
    await placeholders.close('lease-1');
    await successor();
    placeholders.keepOnly([block(9_100, 9_102)]);
    await placeholders.hold('lease-2', block(9_100, 9_102));
    await placeholders.hold('lease-3', block(9_200, 9_206));
    expect(sockets.holdings()).toHaveLength(10);
    expect(host.counts()).toEqual([10]);
  });
});

describe('an agent in a container that is its own', () => {
  it('says that a keeper in there ends with it, and of one in another container nothing', async () => {
    expect(host.warnings).toEqual([]);
    host.endsAll = true;
    await begin();
    expect(host.warnings).toEqual([containing('Run \\"fishery keeper --number 0\\" in a container of its own')]);
    host.warnings.length = 0;
    // Its process cannot be told from here.
    host.identities = false;
    await begin();
    expect(host.warnings).toEqual([]);
  });

  it.each([
    [1, 'node', true],
    [7, 'tini', true],
    [7, 'docker-init', true],
    [812, 'systemd', false],
    [812, undefined, false],
  ])('knows that by process %i under %s: %s', (pid, first, isSo) => {
    expect(endsWithThis(pid, first)).toBe(isSo);
  });
});

describe('a keeper that is lost', () => {
  it('is started again, and everything that was in it is opened again', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_014));
    await placeholders.hold('lease-2', echo(16, 17));
    expect(keepers.hasLost).toBe(false);
    host.running.get(1)?.die();
    expect(keepers.hasLost).toBe(true);
    expect(sockets.holdings()).toHaveLength(10);
    await placeholders.restore();
    expect(sockets.holdings()).toHaveLength(17);
    expect(placeholders).toMatchObject({ open: 17, missing: 0, reopened: 7, problem: undefined });
    expect(keepers.replaced).toBe(1);
    expect(keepers.hasLost).toBe(false);
    expect(ownDescriptors()).toBe(0);
    await placeholders.close('lease-1');
    await placeholders.close('lease-2');
    expect(sockets.held.size).toBe(0);
  });

  it('and was only cut off keeps what it has', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    const before = new Map(sockets.held);
    host.running.get(0)?.cut();
    const replaced: number[] = [];
    keepers.onReplaced((number) => replaced.push(number));
    await placeholders.restore();
    expect(sockets.held).toEqual(before);
    // Fish's own connection may be as good as ever: its flows go on as they are.
    expect([replaced, keepers.replaced]).toEqual([[], 0]);
    expect(placeholders.reopened).toBe(0);
    await placeholders.close('lease-1');
    expect(sockets.held.size).toBe(0);
  });

  it('because it hangs is found as soon as fish waits for it in vain, and another has everything', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_014));
    const hanging = host.running.get(0)!;
    hanging.hangs = true;
    await placeholders.restore();
    expect(keepers.hasLost).toBe(false);
    keepers.doubt();
    await placeholders.restore();
    expect(hanging.isDead).toBe(true);
    expect(placeholders).toMatchObject({ open: 15, missing: 0, reopened: 10 });
    expect(keepers.replaced).toBe(1);
  });

  it('and has something else by now under one of its records has it opened anew', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    const [first] = host.running.get(0)?.kept[kinds.bound]?.values() ?? [];
    sockets.held.set(first!.fd, 'udp 198.51.100.10:9000');
    host.running.get(0)?.cut();
    await placeholders.restore();
    expect(placeholders).toMatchObject({ open: 4, missing: 0, reopened: 1, disbelieved: 1 });
    expect(sockets.holdings()).toEqual([0, 1, 2, 3].map((at) => `tcp 198.51.100.10:900${at}`));
  });

  it('and was cut off while something was closed closes it afterwards', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    await placeholders.hold('lease-2', block(9_100, 9_100));
    host.running.get(0)?.cut();
    await expect(placeholders.close('lease-1')).rejects.toThrow('is lost');
    await placeholders.restore();
    expect(sockets.holdings()).toEqual(['tcp 198.51.100.10:9100']);
    expect(host.counts()).toEqual([1]);
  });

  it('leaves ports to strangers for a moment: who took one is named, and the port is taken again when it is free', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_003));
    host.running.get(0)?.die();
    const stranger = sockets.add(9_002);
    await placeholders.restore();
    expect(placeholders).toMatchObject({ open: 4, missing: 1, reopened: 3 });
    expect(placeholders.problem).toContain('tcp port 9002 of 198.51.100.10: a tcp socket (established)');
    sockets.remove(stranger);
    await placeholders.restore();
    expect(placeholders).toMatchObject({ missing: 0, reopened: 4, problem: undefined });
    expect(sockets.holdings()).toHaveLength(4);
  });

  it('that cannot be started again is tried again, and the others go on', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_014));
    host.problem = 'no program';
    host.running.get(0)?.die();
    await expect(placeholders.restore()).rejects.toThrow('no program');
    host.running.get(1)?.cut();
    const { asked } = host;
    await expect(placeholders.restore()).rejects.toThrow('no program');
    // Not the one that has just been tried.
    expect(host.asked).toBe(asked + 1);
    expect(keepers.status.map(({ problem }) => problem)).toEqual(['keeper 5001 is lost', null]);
    host.problem = undefined;
    host.now += 250;
    await placeholders.restore();
    expect(sockets.holdings()).toHaveLength(15);
    expect(host.counts()).toEqual([10, 5]);
  });

  it('has the agent’s own descriptors put into it again', async () => {
    const fd = sockets.open.openPing(Uint8Array.of(198, 51, 100, 10), 99);
    const replaced: number[] = [];
    keepers.onReplaced((number) => replaced.push(number));
    keepers.keep(0, new Uint8Array(28), fd);
    host.running.get(0)?.die();
    await placeholders.restore();
    expect(replaced).toEqual([0]);
    expect(host.running.get(0)?.kept[kinds.singleton]?.size).toBe(1);
    const taken = keepers.takeKept(0);
    expect(sockets.held.get(taken!.fd)).toBe('ping 99');
    keepers.release(0);
    keepers.remove(0);
    expect(keepers.takeKept(0)).toBeUndefined();
  });

  it('has those put into it again, too, that were taken over from a former agent', async () => {
    keepers.keep(0, new Uint8Array(28), sockets.open.openPing(Uint8Array.of(198, 51, 100, 10), 99));
    keepers.keep(1, new Uint8Array(28), sockets.open.openPing(Uint8Array.of(198, 51, 100, 10), 98));
    for (const keeper of host.running.values()) keeper.cut();
    await begin();
    expect(keepers.takeKept(0)).toBeDefined();
    expect(keepers.takeKept(1)).toBeDefined();
    keepers.release(1);
    host.running.get(0)?.die();
    await placeholders.restore();
    expect([...(host.running.get(0)?.kept[kinds.singleton]?.keys() ?? [])]).toEqual([0]);
  });
});

describe('at the end', () => {
  it('everything stays for a successor', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_001));
    keepers.leave();
    expect(sockets.holdings()).toHaveLength(2);
    expect(host.counts()).toEqual([2]);
  });

  it('or goes, with the keepers', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_014));
    keepers.end();
    expect(sockets.held.size).toBe(0);
    expect([...host.running.values()].map(({ isDead }) => isDead)).toEqual([true, true]);
  });

  it('a keeper that never had anything goes either way', () => {
    keepers.leave();
    expect(host.running.get(0)?.isDead).toBe(true);
  });

  it('room for what is there once each, and for fish, is left free in the first keeper', async () => {
    host = new FakeKeepers(sockets, 10);
    ({ placeholders } = await placeholdersIn(host, { reserved: 7 }));
    await placeholders.hold('lease-1', block(9_000, 9_006));
    expect(host.counts()).toEqual([3, 4]);
  });

  it("fish's flows have room in as many keepers as they take, and placeholders have what is left", async () => {
    host = new FakeKeepers(sockets, 300);
    const own = host.agent(256 + 500);
    expect((await own.begin()).ok).toBe(true);
    expect(own.flowShares()).toEqual([
      { number: 0, flows_max: 44 },
      { number: 1, flows_max: 300 },
      { number: 2, flows_max: 156 },
    ]);
    expect(host.running.size).toBe(3);
    own.end();
    ({ placeholders } = await placeholdersIn(new FakeKeepers(sockets, 300), { reserved: 256 + 500, bound_max: 1_000 }));
    expect(await placeholders.hold('lease-1', block(9_000, 9_255))).toBeUndefined();
    expect(placeholders.open).toBe(256);
  });

  it('a host without fish has no keeper, and ends what a former agent left', async () => {
    await placeholders.hold('lease-1', block(9_000, 9_001));
    for (const keeper of host.running.values()) keeper.cut();
    const own = host.agent(0, false);
    const begun = await own.begin();
    expect(begun.ok && begun.value).toHaveLength(2);
    own.end();
    const none = new FakeKeepers(sockets).agent(0, false);
    expect(await none.begin()).toEqual({ ok: true, value: [] });
    expect(none.status).toEqual([]);
  });
});
