import { afterEach, describe, expect, it } from 'vitest';
import type { TerminateSettings, UsableLease } from '../../src/terminate/protocol.ts';
import { TerminatorWorld, terminateSettings, usableLease } from '../support/terminator-world.ts';

let world: TerminatorWorld;
const open = (settings?: Partial<TerminateSettings>, leases?: readonly UsableLease[]) =>
  (world = new TerminatorWorld(settings, leases));
afterEach(() => world.close());

const wasReset = { ended: false, closed: true, error: 'ECONNRESET' };
/** Who had this port of the lease when the latest attempt began, and how that ended. */
const behind = (port: number) =>
  world.terminator
    .search({ address: '198.51.100.10', port, remote: '203.0.113.1', remotePort: 443, at: world.begunAt }, 10)
    .matches.map(({ client, clientPort, ending }) => ({ client, clientPort, ending }));

describe('a connection that is carried on', () => {
  it('is known by its port from the first attempt on, with its bytes, and after its end', async () => {
    open();
    const client = await world.client();
    const [attempt] = world.attempts;
    expect(attempt?.asked).toMatchObject({
      host: '203.0.113.1',
      port: 443,
      lease: { id: 'lease-1' },
    });
    const { timeoutMs = 0 } = attempt!.asked;
    expect(timeoutMs).toBeGreaterThan(10_000);
    expect(timeoutMs).toBeLessThanOrEqual(20_000);
    expect(behind(9_001)).toEqual([]);
    attempt?.begins(9_001);
    const who = { client: '100.64.0.2', clientPort: client.far.localPort };
    expect(behind(9_001)).toEqual([{ ...who, ending: null }]);
    expect(world.stats()).toMatchObject({ accepted: 1, open: 1, connecting: 1, connected: 0, clients: 1 });
    const origin = await attempt!.answers();
    client.far.write('question');
    await expect.poll(() => origin.heard.text).toBe('question');
    expect(world.stats()).toMatchObject({ open: 1, connecting: 0, connected: 1, bytes_up: 8, bytes_down: 0 });
    expect(world.terminator.connections({}, 10).connections).toMatchObject([
      { lease: 'lease-1', client: '100.64.0.2', port: 9_001, bytesOut: 8, bytesIn: 0 },
    ]);
    origin.far.end('an answer');
    client.far.end();
    await expect
      .poll(() => world.stats())
      .toMatchObject({ open: 0, clients: 0, finished: 1, bytes_up: 8, bytes_down: 9 });
    expect(client.heard).toMatchObject({ text: 'an answer', ended: true, error: null });
    expect(behind(9_001)).toEqual([{ ...who, ending: 'finished' }]);
  });

  it.each(['client', 'origin'] as const)('is over, and counted, when the %s resets it', async (side) => {
    open();
    const both = await world.connected();
    both[side].far.resetAndDestroy();
    const counted = { open: 0, client_resets: Number(side === 'client'), origin_resets: Number(side === 'origin') };
    await expect.poll(() => world.stats()).toMatchObject(counted);
    expect(behind(9_001)).toMatchObject([{ ending: 'reset' }]);
    await expect.poll(() => both[side === 'client' ? 'origin' : 'client'].heard).toMatchObject(wasReset);
  });

  it('is over when nothing is said for so long', async () => {
    open({ idle_timeout_s: 0.1 });
    const { client, origin } = await world.connected();
    await expect.poll(() => [client.heard, origin.heard]).toMatchObject([wasReset, wasReset]);
    await expect.poll(() => world.stats()).toMatchObject({ open: 0, idle: 1, finished: 0 });
    expect(behind(9_001)).toMatchObject([{ ending: 'idle' }]);
  });

  it('may be silent for less once one side is done', async () => {
    open({ idle_timeout_s: 600, half_closed_timeout_s: 0.1 });
    const { client, origin } = await world.connected();
    expect(client.near.timeout).toBe(600_000);
    client.far.end();
    await expect.poll(() => origin.heard.ended).toBe(true);
    await expect.poll(() => client.heard).toMatchObject(wasReset);
    await expect.poll(() => world.stats()).toMatchObject({ open: 0, idle: 1 });
  });

  it('is lost to neither side when what its client has said comes before the origin has answered', async () => {
    open();
    const client = await world.client();
    client.far.end('all I have');
    await expect.poll(() => client.near.readableLength).toBe(10);
    const origin = await world.attempts[0]!.answers();
    await expect.poll(() => origin.heard).toMatchObject({ text: 'all I have', ended: true });
    origin.far.end('thanks');
    await expect.poll(() => client.heard).toMatchObject({ text: 'thanks', ended: true, error: null });
    await expect.poll(() => world.stats().finished).toBe(1);
  });
});

it('what a slow reader has not taken is told of, by the pipes that it holds', async () => {
  open();
  const { client, origin } = await world.connected();
  expect(world.stats()).toMatchObject({ pipes_held: 0, pipes_max: 16 });
  origin.far.pause();
  client.far.write(Buffer.alloc(64 * 1_024 * 1_024));
  await expect.poll(() => world.stats().pipes_held).toBe(1);
  const { bytes_up } = world.stats();
  expect(bytes_up).toBeGreaterThan(client.near.bytesRead);
  expect(world.terminator.connections({}, 1).connections).toMatchObject([{ bytesOut: bytes_up }]);
  origin.far.resume();
  await expect.poll(() => origin.heard.received).toBe(64 * 1_024 * 1_024);
  expect(world.stats()).toMatchObject({ pipes_held: 0, bytes_up: 64 * 1_024 * 1_024 });
});

describe('an origin that is not reached', () => {
  it.each([
    ['refused', 'refused'],
    ['timeout', 'timed_out'],
    ['unreachable', 'unreachable'],
    ['failed', 'failed'],
    ['port_range', 'failed'],
  ] as const)('(%s) resets its client, and is counted for its destination', async (failure, counter) => {
    open();
    const client = await world.client();
    world.attempts[0]!.begins(9_001);
    world.attempts[0]!.fails(failure);
    await expect.poll(() => client.heard).toMatchObject(wasReset);
    const { destinations, total, ...stats } = world.stats();
    expect(stats).toMatchObject({ open: 0, connected: 0, [counter]: 1 });
    const told = { connected: 0, [counter]: 1, last_problem: `it is ${failure}` };
    expect(destinations).toMatchObject([{ address: '203.0.113.1', port: 443, ...told }]);
    expect(total).toMatchObject(told);
    expect(behind(9_001)).toMatchObject([{ client: '100.64.0.2', ending: 'not_connected' }]);
  });

  it('gives its client an end without an answer, if that is wanted, but a refusal is a reset', async () => {
    open({ on_unreachable: 'close' });
    for (const failure of ['timeout', 'unreachable', 'refused'] as const) {
      const { heard } = await world.client();
      world.attempts.at(-1)!.fails(failure);
      const end = failure === 'refused' ? wasReset : { ended: true, received: 0, error: null };
      await expect.poll(() => heard).toMatchObject(end);
    }
  });
});

describe('ports', () => {
  const leases = Array.from({ length: 10 }, (_, index) => usableLease(`lease-${index}`, `198.51.100.${index}`));

  it('are looked for in one lease after the other, up to eight, while all of each are in use', async () => {
    open({}, leases);
    const client = await world.client();
    for (let i = 0; i < 8; i++) {
      world.attempts[i]!.fails('ports_exhausted');
      await new Promise(setImmediate);
    }
    await expect.poll(() => client.heard).toMatchObject(wasReset);
    expect(new Set(world.attempts.map(({ asked }) => asked.lease.id)).size).toBe(8);
    expect(world.stats()).toMatchObject({ ports_exhausted: 1, open: 0, destinations: [] });
    expect(world.terminator.portUse().families).toMatchObject([{ family: 4, refused: 1 }, { refused: 0 }]);
  });

  it('of a lease that was taken back meanwhile are not asked for', async () => {
    open({}, leases.slice(0, 3));
    const client = await world.client();
    const kept = leases.slice(0, 3).filter(({ id }) => id !== world.attempts[0]!.asked.lease.id);
    world.terminator.configure(terminateSettings, [kept[0]!]);
    world.attempts[0]!.fails('ports_exhausted');
    await expect.poll(() => world.attempts).toHaveLength(2);
    expect(world.attempts[1]!.asked.lease.id).toBe(kept[0]!.id);
    world.attempts[1]!.fails('ports_exhausted');
    await expect.poll(() => client.heard).toMatchObject(wasReset);
    expect(world.attempts).toHaveLength(2);
  });

  it('of the right family, or of none: then the client is reset', async () => {
    open({}, [usableLease('lease-6', '2001:db8:a::10')]);
    const refused = await world.client();
    await expect.poll(() => refused.heard).toMatchObject(wasReset);
    expect(world.stats()).toMatchObject({ no_lease: 1 });
    await world.client({ client: '2001:db8:c::2', to: '2001:db8:f::1' });
    expect(world.attempts).toMatchObject([{ asked: { host: '2001:db8:f::1', lease: { id: 'lease-6' } } }]);
  });

  it('are told of by lease, family and destination', async () => {
    open({}, [leases[0]!, usableLease('lease-6', '2001:db8:a::10')]);
    await world.connected();
    await world.connected();
    await world.connected({ port: 80 });
    await world.connected({ client: '2001:db8:c::2', to: '2001:db8:f::1' });
    expect(world.terminator.portUse()).toEqual({
      families: [
        { family: 4, busiest: 2, refused: 0 },
        { family: 6, busiest: 1, refused: 0 },
      ],
      leases: [
        { lease: 'lease-0', flows: 3 },
        { lease: 'lease-6', flows: 1 },
      ],
    });
    expect(world.terminator.busiest(1)).toMatchObject([
      { family: 4, remote: '203.0.113.1', remotePort: 443, used: 2, ports: 10 },
      { family: 6, remote: '2001:db8:f::1', used: 1, ports: 10 },
    ]);
    expect(world.terminator.talkers('lease', 10)).toMatchObject([{ connections: 3 }, { connections: 1 }]);
  });
});

describe('a client is turned away', () => {
  const rules = [{ clients: [], destinations: [], ports: [{ first: 80, last: 80 }], path: 'packet' as const }];
  it.each([
    ['not_chosen', 'that was led here against the paths', { paths: { rules, otherwise: 'terminate' } }, { port: 80 }],
    ['not_chosen', 'that means the listener itself', {}, { to: '127.0.0.1', port: 7_490 }],
    ['not_chosen', 'that means the listener itself', {}, { to: '::1', client: '::1', port: 7_490 }],
    ['over_limit', 'when there are as many as there may be', { connections_max: 1 }, { client: '100.64.0.3' }],
    ['over_client_limit', 'when it has as many as it may have', { connections_per_client_max: 1 }, {}],
  ] as const)('(%s) %s, and a reset of its own', async (counter, _how, settings, meant) => {
    open(settings);
    await world.client();
    const { heard } = await world.client(meant);
    await expect.poll(() => heard).toMatchObject(wasReset);
    expect(world.attempts).toHaveLength(1);
    expect(world.stats()).toMatchObject({ accepted: 2, open: 1, [counter]: 1 });
  });

  it('no longer when one of its connections is over', async () => {
    open({ connections_per_client_max: 1 });
    const { client } = await world.connected();
    client.far.resetAndDestroy();
    await expect.poll(() => world.stats().open).toBe(0);
    await world.client();
    expect(world.stats()).toMatchObject({ open: 1, over_client_limit: 0 });
  });
});

describe('a client that leaves before its origin has answered', () => {
  it.each([
    ['resets', (far: { resetAndDestroy(): unknown }) => far.resetAndDestroy()],
    ['ends without a word', (far: { end(): unknown }) => far.end()],
  ] as const)('(it %s) has its attempt given up', async (_how, leave) => {
    open();
    const { far } = await world.client();
    world.attempts[0]!.begins(9_001);
    leave(far);
    await expect.poll(() => world.stats()).toMatchObject({ open: 0, client_left: 1, connected: 0 });
    expect(world.attempts[0]!.asked.signal?.aborted).toBe(true);
    expect(behind(9_001)).toMatchObject([{ ending: 'not_connected' }]);
  });

  it('is noticed also when it has said more than is read by then, if it resets', async () => {
    open();
    const { near, far } = await world.client();
    far.write(Buffer.alloc(4 * 1_024 * 1_024));
    await expect.poll(() => near.readableLength).toBeGreaterThanOrEqual(near.readableHighWaterMark);
    far.resetAndDestroy();
    await expect
      .poll(() => {
        world.terminator.lookForLost();
        return world.stats();
      })
      .toMatchObject({ open: 0, client_left: 1 });
  });
});

describe('past the horizon', () => {
  it('everything is reset, and nothing more leaves from a leased port', async () => {
    open({}, [usableLease('lease-1'), usableLease('lease-2', '198.51.100.11')]);
    const { client, origin } = await world.connected();
    const waiting = await world.client();
    const searching = await world.client();
    world.attempts[2]!.fails('ports_exhausted');
    expect(world.terminator.fence()).toBe(3);
    // At once, not when the loop comes around.
    expect(world.attempts[1]!.asked.signal?.aborted).toBe(true);
    const told = [client, origin, waiting, searching].map(({ heard }) => heard);
    await expect.poll(() => told).toMatchObject([wasReset, wasReset, wasReset, wasReset]);
    await expect.poll(() => world.stats()).toMatchObject({ open: 0, cut: 3, client_left: 0, finished: 0 });
    expect(world.attempts).toHaveLength(3);
    expect(behind(9_001)).toMatchObject([{ ending: 'fenced' }]);

    const next = await world.client();
    await expect.poll(() => next.heard).toMatchObject(wasReset);
    expect(world.stats().no_lease).toBe(1);
    world.terminator.configure(terminateSettings, [usableLease('lease-1')]);
    await world.connected();
    expect(world.stats()).toMatchObject({ open: 1, connected: 2 });
  });

  it('so does an origin that has answered just before', async () => {
    open();
    const client = await world.client();
    world.attempts[0]!.begins(9_001);
    const origin = await world.attempts[0]!.answers();
    world.terminator.fence();
    await expect.poll(() => [client.heard, origin.heard]).toMatchObject([wasReset, wasReset]);
    await expect.poll(() => world.stats()).toMatchObject({ open: 0, cut: 1 });
  });
});
