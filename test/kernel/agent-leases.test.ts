import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../src/agent/status/status.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { AgentLab, eventually, type AgentProcess, type User } from './support/agent-lab.ts';

const address = '198.51.100.10';
const webUid = 2_001;
const otherUid = 2_002;

let lab: AgentLab;
let agent: AgentProcess;
let config: string;
const users: User[] = [];

async function user(namespace: string, uid: number): Promise<User> {
  const one = await lab.user(namespace, uid);
  users.push(one);
  return one;
}
afterEach(async () => {
  await Promise.all(users.splice(0).map((one) => one.kill()));
});

type Place = Readonly<{ address: string; first_port: number }>;
type Claim = Readonly<{ protocol: string; ports: number; mode?: string; family?: 4 | 6; at?: Place | undefined }>;

/** Where the next block goes that is not told where: no two share a port, so what one test leaves is in no other's way. */
let nextPort = 8_448;
function place(ports: number): Place {
  const first_port = Math.ceil(nextPort / ports) * ports;
  nextPort = first_port + ports;
  return { address, first_port };
}

async function lease(holder: string, claim: Claim): Promise<Lease> {
  const session = await lab.client.sessions.open({ machine: 'edge', holder, ttl_s: 600 });
  const claims = [{ at: place(claim.ports), ...claim } as never];
  const { leases } = await lab.client.leases.grant({ session: session.id, claims });
  const [granted] = leases;
  if (!granted) throw new Error('no lease');
  return granted;
}

const onHost = ({ leases }: AgentStatus, id: string) => leases.find((each) => each.lease === id);
const counter = async (name: string): Promise<number> =>
  (await agent.status()).counters[name as 'guard_uid']?.packets ?? NaN;
const state = async (id: string): Promise<string> => (await lab.client.leases.get(id)).state;
const become = (id: string, wanted: string, timeout_ms?: number) =>
  eventually(
    async () => ((await state(id)) === wanted ? true : undefined),
    () => `${id} is not ${wanted}\n${agent.output.slice(-2_000)}`,
    timeout_ms,
  );

describe('on a host for proxies', () => {
  let web: User;
  let other: User;

  beforeAll(async () => {
    lab = await AgentLab.open('leases');
    config = await lab.setUp();
    for (const [holder, uid] of [
      ['web', webUid],
      ['mail', otherUid],
      ['moving', 2_003],
      ['leaving', 2_005],
    ] as const)
      await lab.client.machines.putHolder('edge', holder, { kind: 'proxy', uid });
    const origin = await lab.user(lab.origin, 0);
    for (const on of ['203.0.113.1', '2001:db8:f::1']) await origin.ask({ op: 'echo', on, port: 80 });
    await origin.ask({ op: 'udp', from: '203.0.113.1', port: 53, to: '', toPort: 0, timeout_ms: 1 });
    agent = lab.startAgent(config);
    await agent.ready();
  });
  afterAll(() => lab.close());
  beforeEach(async () => {
    [web, other] = await Promise.all([user(lab.host, webUid), user(lab.host, otherUid)]);
  });

  const clearing = (id: string) => agent.until((status) => onHost(status, id)?.phase === 'clearing', 'it does not end');

  describe("a proxy's exclusive block", () => {
    it('is for its user id alone, and its ports alone, and every drop is counted', async () => {
      const { ports, state: granted } = await lease('web', { protocol: 'tcp', ports: 128 });
      expect(granted).toBe('active');
      expect(await web.connect(address, ports.first)).toMatch(/^socket-/);
      expect(await web.connect(address, ports.last)).toMatch(/^socket-/);

      const before = await counter('guard_uid');
      expect(await other.connect(address, ports.first + 1)).toBe('TIMEOUT');
      expect(await web.connect(address, ports.last + 1)).toBe('TIMEOUT');
      expect(await web.udp(address, ports.first)).toBe('EPERM');
      const counted = await counter('guard_uid');
      expect(counted).toBeGreaterThanOrEqual(before + 3);
      // A block of another size makes the table be loaded anew, which must not lose counts or cut connections.
      await lease('web', { protocol: 'tcp', ports: 32 });
      expect(await counter('guard_uid')).toBeGreaterThanOrEqual(counted);
      expect(await web.connect(address, ports.first + 2)).toMatch(/^socket-/);
    });

    it('does not answer for somebody else’s listener when the kernel sends cookies', async () => {
      const { ports } = await lease('web', { protocol: 'tcp', ports: 16 });
      expect(await other.ask({ op: 'listen', on: '0.0.0.0', port: ports.first })).toMatch(/^socket-/);
      const remote = await user(lab.origin, 0);
      lab.shell(lab.host, 'sysctl -qw net.ipv4.tcp_syncookies=2');
      const before = await counter('guard_unowned');
      const capture = await lab.capture(lab.origin, 'o0', `tcp and src host ${address} and src port ${ports.first}`);
      expect(await remote.connect('203.0.113.1', 0, address, ports.first)).toBe('TIMEOUT');
      expect(await counter('guard_unowned')).toBeGreaterThan(before);
      expect(await capture.stop()).toEqual([]);
      lab.shell(lab.host, 'sysctl -qw net.ipv4.tcp_syncookies=1');
    });

    it('lets datagrams out and back', async () => {
      const { ports } = await lease('web', { protocol: 'udp', ports: 16 });
      const socket = await web.udp(address, ports.first);
      expect(await web.ask({ op: 'heard', socket })).toBe('ping');
      expect(await other.udp(address, ports.first + 1)).toBe('EPERM');
    });

    it('follows its holder to another user id, also while no agent runs, and cuts nobody who was let in', async () => {
      const before = await user(lab.host, 2_003);
      const { id, ports } = await lease('moving', { protocol: 'tcp', ports: 16 });
      const old = await before.connect(address, ports.last);
      expect(old).toMatch(/^socket-/);
      await lab.client.machines.putHolder('edge', 'moving', { kind: 'proxy', uid: 2_004 });
      const moved = await user(lab.host, 2_004);
      const connected = await eventually(
        async () => {
          const answer = await moved.connect(address, ports.first);
          return answer.startsWith('socket-') ? answer : undefined;
        },
        () => agent.output.slice(-2_000),
      );
      expect(connected).toMatch(/^socket-/);
      expect(await before.connect(address, ports.first + 1)).toBe('TIMEOUT');
      // What the old one has open goes on, and the lease with both.
      const echoes = async (by: User, socket: string, text: string) => {
        expect(await by.ask({ op: 'say', socket, text })).toBe('said');
        await eventually(
          async () => ((await by.ask({ op: 'heard', socket })).endsWith(text) ? true : undefined),
          () => `no echo of ${text}`,
        );
      };
      await echoes(before, old, 'still');
      const pid = `[${before.child.pid}]`;
      const waits = await agent.until((status) => !!onHost(status, id)?.detail?.includes(pid), 'nobody is waited for');
      expect(onHost(waits, id)).toMatchObject({ phase: 'up' });
      expect(waits.host.problem).toBeNull();
      expect(lab.shell(lab.host, 'nft list table inet fishery')).toContain(`. ${ports.first} . 2003`);

      await agent.end('SIGKILL');
      await lab.client.machines.putHolder('edge', 'moving', { kind: 'proxy', uid: 2_006 });
      agent = lab.startAgent(config);
      await agent.ready();
      await echoes(before, old, 'after a restart');
      await echoes(moved, connected, 'too');
      const both = await agent.until((status) => !!onHost(status, id)?.detail?.includes(pid), 'nobody is waited for');
      expect(onHost(both, id)).toMatchObject({ phase: 'up' });

      await lab.client.leases.revoke(id);
      await moved.kill();
      await clearing(id);
      expect(await state(id)).toBe('ending');
      await before.ask({ op: 'close', socket: old });
      await become(id, 'ended');
      expect(lab.shell(lab.host, 'nft list table inet fishery')).not.toContain(`. ${ports.first} `);
    });

    it('is refused while a stranger has a socket on it, who is named', async () => {
      expect(await other.ask({ op: 'listen', on: '0.0.0.0', port: 8_200 })).toMatch(/^socket-/);
      const claim = { protocol: 'tcp', ports: 16, at: { address, first_port: 8_192 } };
      await expect(lease('web', claim)).rejects.toMatchObject({ code: 'claim_refused' });
      const [refused] = (await lab.client.leases.list({ machine: 'edge', state: 'refused' })).items;
      expect(refused?.refusal).toMatchObject({ errno: 'EADDRINUSE' });
      expect(refused?.refusal?.detail).toContain(`[${other.child.pid}]`);
      expect(refused?.refusal?.detail).toContain('0.0.0.0 port 8200');
      expect(lab.shell(lab.host, 'nft list table inet fishery')).not.toContain('. 8192');
      const { extents } = await lab.client.slices.extents(refused?.slice ?? '');
      expect(extents.filter((each) => each.state === 'blocked').map(({ ports }) => ports)).toEqual([
        { first: 8_192, last: 8_207 },
      ]);
    });

    it('ends only when its last socket is gone, and says whom it waits for', async () => {
      const granted = await lease('web', { protocol: 'tcp', ports: 16 });
      const socket = await web.connect(address, granted.ports.first);
      await lab.client.leases.revoke(granted.id);
      const waits = await agent.until(
        (status) => (onHost(status, granted.id)?.detail ?? null) !== null,
        'nobody is waited for',
      );
      expect(onHost(waits, granted.id)).toMatchObject({ phase: 'clearing' });
      expect(onHost(waits, granted.id)?.detail).toContain(`[${web.child.pid}]`);
      expect(await state(granted.id)).toBe('ending');
      // What it has may still be finished.
      expect(await web.ask({ op: 'say', socket, text: 'last words' })).toBe('said');
      await eventually(
        async () => ((await web.ask({ op: 'heard', socket })) === 'last words' ? true : undefined),
        () => 'no echo',
      );

      await web.ask({ op: 'close', socket });
      await become(granted.id, 'ended');
      expect(lab.shell(lab.host, 'nft list table inet fishery')).not.toContain(`. ${granted.ports.first}`);
      expect(await web.connect(address, granted.ports.first + 1)).toBe('TIMEOUT');
    });

    it('lets nobody through any more when its holder is deleted, until another has the user id', async () => {
      const leaving = await user(lab.host, 2_005);
      const granted = await lease('leaving', { protocol: 'tcp', ports: 16 });
      const socket = await leaving.connect(address, granted.ports.first);
      expect(lab.shell(lab.host, 'nft list table inet fishery')).toContain('. 2005');
      const holder = await lab.client.machines.holder('edge', 'leaving');
      await expect(lab.client.machines.deleteHolder(holder)).rejects.toMatchObject({ code: 'holder_in_use' });
      await lab.client.sessions.end(granted.session ?? '');
      await clearing(granted.id);
      await expect(lab.client.machines.deleteHolder(holder)).rejects.toMatchObject({ code: 'holder_in_use' });
      await leaving.ask({ op: 'close', socket });
      await become(granted.id, 'ended');
      await lab.client.machines.deleteHolder(holder);
      expect(lab.shell(lab.host, 'nft list table inet fishery')).not.toContain('. 2005');
      expect(await leaving.connect(address, granted.ports.first)).toBe('TIMEOUT');

      await lab.client.machines.putHolder('edge', 'news', { kind: 'proxy', uid: 2_005 });
      const next = await lease('news', { protocol: 'tcp', ports: 16 });
      expect(await leaving.connect(address, next.ports.first)).toMatch(/^socket-/);
    });

    it('is shut as soon as it ends: no new connection in or out, while the old one drains', async () => {
      const granted = await lease('web', { protocol: 'tcp', ports: 16 });
      const { first } = granted.ports;
      const old = await web.connect(address, first);
      expect(old).toMatch(/^socket-/);
      expect(await web.ask({ op: 'listen', on: address, port: first + 2 })).toMatch(/^socket-/);
      const stranger = await user(lab.origin, 0);
      expect(await stranger.connect('203.0.113.1', 0, address, first + 2)).toMatch(/^socket-/);
      await lab.client.leases.revoke(granted.id);
      await clearing(granted.id);

      const before = await counter('guard_ending');
      expect(await web.connect(address, first + 1)).toBe('TIMEOUT');
      const connected = await counter('guard_ending');
      expect(connected).toBeGreaterThan(before);
      expect(await stranger.connect('203.0.113.1', 0, address, first + 2)).toBe('TIMEOUT');
      expect(await counter('guard_ending')).toBeGreaterThan(connected);

      expect(await web.ask({ op: 'say', socket: old, text: 'still' })).toBe('said');
      await eventually(
        async () => ((await web.ask({ op: 'heard', socket: old })) === 'still' ? true : undefined),
        () => 'no echo',
      );
      expect(await state(granted.id)).toBe('ending');
      await web.ask({ op: 'close', socket: old });
      await web.kill();
      await become(granted.id, 'ended');
      expect(lab.shell(lab.host, 'nft list table inet fishery')).not.toContain(`. ${first} `);
    });

    it('lets no datagram out any more when it ends', async () => {
      const granted = await lease('web', { protocol: 'udp', ports: 16 });
      const socket = await web.udp(address, granted.ports.first);
      expect(socket).toMatch(/^socket-/);
      await lab.client.leases.revoke(granted.id);
      await clearing(granted.id);
      const before = await counter('guard_ending');
      expect(await web.udp(address, granted.ports.first + 1)).toBe('EPERM');
      expect(await counter('guard_ending')).toBeGreaterThan(before);
      await web.kill();
      await become(granted.id, 'ended');
    });

    it('ends when its process is killed, data and all', async () => {
      const granted = await lease('web', { protocol: 'tcp', ports: 16 });
      await web.connect(address, granted.ports.first);
      await lab.client.sessions.end(granted.session ?? '');
      await web.kill();
      await become(granted.id, 'ended');
    });

    it('works over IPv6 as well', async () => {
      await lab.client.slices.assign({
        machine: 'edge',
        pool: 'pool',
        at: { address: '2001:db8:a::10', first_port: 8_192 },
      });
      const granted = await eventually(
        () => lease('web', { protocol: 'tcp', ports: 16, family: 6, at: undefined }).catch(() => undefined),
        () => agent.output.slice(-2_000),
      );
      expect(await web.connect('2001:db8:a::10', granted.ports.first, '2001:db8:f::1')).toMatch(/^socket-/);
      expect(await other.connect('2001:db8:a::10', granted.ports.first + 1, '2001:db8:f::1')).toBe('TIMEOUT');
      expect(await web.connect('2001:db8:a::10', granted.ports.last + 1, '2001:db8:f::1')).toBe('TIMEOUT');
    });

    it('is not got round by fragments or by raw sockets, and who forges a whole packet meets the guard as well', async () => {
      const { ports } = await lease('web', { protocol: 'udp', ports: 16 });
      const capture = await lab.capture(lab.origin, 'o0', `udp and src host ${address}`);
      const large = { to: '203.0.113.1', toPort: 53, timeout_ms: 2_000, bytes: 4_000 };
      const socket = await web.ask({ op: 'udp', from: address, port: ports.first, ...large });
      expect(await web.ask({ op: 'heard', socket })).toHaveLength(4_000);
      expect(await web.ask({ op: 'udp', from: address, port: ports.last + 1, ...large })).toBe('EPERM');
      const own = (await capture.stop()).length;
      // One datagram, in three fragments.
      expect(own).toBe(3);

      for (const family of ['inet', 'inet6', 'packet'] as const)
        expect(await web.ask({ op: 'raw', family, packet: '', to: '203.0.113.1' }), family).toBe('EPERM');
      const silent = await lab.capture(lab.origin, 'o0', `udp and src host ${address}`);
      const root = await user(lab.host, 0);
      const hex = (value: number) => value.toString(16).padStart(4, '0');
      /** From the pool's address to the origin: 8 bytes of UDP, or of the middle of something. */
      const forged = (fragment: number) =>
        `4500001c0000${hex(fragment)}40110000c633640acb007101${hex(ports.first)}003500080000`;
      const before = await counter('guard_uid');
      for (const fragment of [0, 0x2000, 0x00b9])
        expect(await root.ask({ op: 'raw', family: 'inet', packet: forged(fragment), to: '203.0.113.1' })).toBe(
          'EPERM',
        );
      expect(await counter('guard_uid')).toBe(before + 3);
      expect(await silent.stop()).toEqual([]);
    });

    it('stays silent where nobody listens, and drops what the kernel itself would send elsewhere', async () => {
      const { ports } = await lease('web', { protocol: 'tcp', ports: 16 });
      const stranger = await user(lab.origin, 0);
      const own = `src portrange ${ports.first}-${ports.last + 1}`;
      const capture = await lab.capture(lab.origin, 'o0', `tcp and src host ${address} and ${own}`);
      const before = await agent.status();
      // Owned: the orphan rule. Not owned: the kernel answers with a reset, which the guard drops.
      expect(await stranger.connect('203.0.113.1', 0, address, ports.first)).toBe('TIMEOUT');
      expect(await stranger.connect('203.0.113.1', 0, address, ports.last + 1)).toBe('TIMEOUT');
      const after = await agent.status();
      expect(after.counters.orphan?.packets).toBeGreaterThan(before.counters.orphan?.packets ?? NaN);
      expect(after.counters.guard_unowned?.packets).toBeGreaterThan(before.counters.guard_unowned?.packets ?? NaN);
      expect(await capture.stop()).toEqual([]);
    });
  });

  describe('a shared block', () => {
    it('serves several holders, and each leaves for itself', async () => {
      const claim = { protocol: 'tcp', mode: 'shared', ports: 16, at: undefined };
      const first = await lease('web', claim);
      const second = await lease('mail', claim);
      expect(second.ports).toEqual(first.ports);
      expect(await web.connect(address, first.ports.first)).toMatch(/^socket-/);
      const mails = await other.connect(address, first.ports.first + 1);
      expect(mails).toMatch(/^socket-/);

      await lab.client.leases.revoke(first.id);
      await web.kill();
      await become(first.id, 'ended');
      expect(await state(second.id)).toBe('active');
      expect(await other.ask({ op: 'say', socket: mails, text: 'still here' })).toBe('said');
      const again = await user(lab.host, webUid);
      expect(await again.connect(address, first.ports.first)).toBe('TIMEOUT');
      expect(await other.connect(address, first.ports.first + 2)).toMatch(/^socket-/);
    });
  });

  describe('a slice', () => {
    it('is assigned when its address is there behind the guard, and given back when it is empty', async () => {
      const { slices } = await lab.client.slices.assign({
        machine: 'edge',
        pool: 'pool',
        at: { address: '198.51.100.20', first_port: 2_048 },
      });
      const id = slices[0]?.id ?? '';
      const is = async () => (await lab.client.slices.get(id)).state;
      await eventually(
        async () => ((await is()) === 'assigned' ? true : undefined),
        () => agent.output.slice(-2_000),
      );
      expect(lab.shell(lab.host, 'ip -o addr show dev lo')).toContain('198.51.100.20/32');

      const granted = await lease('web', {
        protocol: 'tcp',
        ports: 16,
        at: { address: '198.51.100.20', first_port: 2_048 },
      });
      const socket = await web.connect('198.51.100.20', 2_048);
      lab.shell(lab.host, 'ip addr add 198.51.100.20/32 dev h0');
      await lab.client.slices.drain({ id, revision: '*' });
      expect(await is()).toBe('draining');
      await lab.client.leases.revoke(granted.id);
      await web.ask({ op: 'close', socket });
      await eventually(
        async () => (['cooling', 'free'].includes(await is()) ? true : undefined),
        () => agent.output.slice(-2_000),
      );
      await eventually(
        () => (lab.shell(lab.host, 'ip -o addr show dev lo').includes('198.51.100.20') ? undefined : true),
        () => 'the address is still there',
      );
      expect(lab.shell(lab.host, 'ip -o addr show dev lo')).toContain('198.51.100.10/32');
      // On a link it stands still, and may be another machine's by now: it is no address like any other here.
      expect(await other.connect('198.51.100.20', 9_000)).toBe('TIMEOUT');
      await agent.end('SIGKILL');
      agent = lab.startAgent(config);
      await agent.ready();
      expect(await other.connect('198.51.100.20', 9_001)).toBe('TIMEOUT');
      expect(lab.shell(lab.host, 'nft list set inet fishery host4')).not.toContain('198.51.100.20');
    });
  });
});

describe("fish's ports", () => {
  const fish = (claims: object[]) => ({
    client_interfaces: ['hc'],
    fish: { client_prefixes: ['100.64.0.0/10'], claims },
  });
  beforeEach(async () => {
    lab = await AgentLab.open('ports');
  });
  afterEach(() => lab.close());

  it('are held: nobody else can bind them', async () => {
    const at = { address, first_port: 9_216 };
    agent = lab.startAgent(await lab.setUp({ settings: fish([{ protocol: 'tcp', ports: 16, at }]) }));
    await agent.until(({ lease_counts }) => lease_counts['up'] === 1, 'fish has no lease');
    const stranger = await user(lab.host, otherUid);
    expect(await stranger.ask({ op: 'listen', on: address, port: 9_220 })).toBe('EADDRINUSE');
    expect(await stranger.ask({ op: 'listen', on: '0.0.0.0', port: 9_220 })).toBe('EADDRINUSE');
    expect(await stranger.ask({ op: 'listen', on: address, port: 9_232 })).toMatch(/^socket-/);
  });

  it('that a stranger has are refused with the errno and the stranger, and asked for elsewhere', async () => {
    const config = await lab.setUp({ settings: fish([{ protocol: 'tcp', ports: 16 }]) });
    const stranger = await user(lab.host, otherUid);
    // The block that the server grants first is the highest of the slice.
    for (const port of [10_232, 10_233])
      expect(await stranger.ask({ op: 'listen', on: '0.0.0.0', port })).toMatch(/^socket-/);
    agent = lab.startAgent(config);
    await agent.until(({ lease_counts }) => lease_counts['up'] === 1, 'fish has no lease');
    const { items } = await lab.client.leases.list({ machine: 'edge' });
    const refused = items.find((each) => each.state === 'refused');
    expect(refused?.ports).toEqual({ first: 10_224, last: 10_239 });
    expect(refused?.refusal).toMatchObject({ errno: 'EADDRINUSE' });
    expect(refused?.refusal?.detail).toContain('tcp port 10232');
    expect(refused?.refusal?.detail).toContain(`[${stranger.child.pid}]`);
    expect(items.find((each) => each.state === 'active')?.ports).not.toEqual(refused?.ports);
    // All or nothing: none of the ports before the one that failed is held.
    expect(await stranger.ask({ op: 'listen', on: address, port: 10_224 })).toMatch(/^socket-/);
  });
});
