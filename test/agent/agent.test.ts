import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { problemsIn, statusOf } from '../../src/agent/status/status.ts';
import { metricsText } from '../../src/agent/status/metrics.ts';
import { FisheryError } from '../../src/sdk/index.ts';
import { holder, instant, lease, slice } from '../support/agent-values.ts';
import { statusOf as agentStatus } from '../support/doctor-facts.ts';
import { containing } from '../support/matchers.ts';

import { snapshot, World } from '../support/agent-world.ts';

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());

describe('before the server has said anything', () => {
  it('nothing is done to the host', async () => {
    world.start();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([world.host.observations, world.host.done, world.fishStarts]).toEqual([0, [], 0]);
    await world.stop();
    expect(world.host.done).toEqual([]);
  });

  it('flows that a former agent has left go on, and stay when it ends before it has heard anything', async () => {
    world.hasFlows = true;
    world.start();
    await expect.poll(() => world.fishStarts).toBe(1);
    await world.stop();
    expect([world.blocks, world.fishLeft, world.host.done]).toEqual([[], [true], []]);
  });

  it("fish that cannot go on with a former one's flows keeps nothing else from beginning", async () => {
    world.hasFlows = true;
    world.fishFails = true;
    world.start();
    await expect.poll(() => world.fishStarts).toBe(1);
    world.fishFails = false;
    world.say(snapshot());
    await expect.poll(() => world.fishStarts).toBe(2);
  });

  it('a refusal ends the agent, with the reason', async () => {
    world.refusal = new FisheryError('no', { code: 'unauthorized', status: 401, retryable: false });
    world.start();
    await expect(world.running).rejects.toMatchObject({ status: 401 });
    expect(world.host.done).toEqual([]);
  });
});

describe('what is looked at now and then', () => {
  it('is reported: blocked ports that are clear, and units that are gone', async () => {
    const ports = { first: 9_000, last: 9_007 };
    const blocked = [{ slice: 'slice-1', generation: 1, protocol: 'tcp' as const, ports }];
    const reserved = (number: number, unit: string) =>
      lease(number, { session: null, unit, holder: 'squid', state: 'active', ports: { first: number, last: number } });
    world.start();
    world.say(
      snapshot({
        slices: [slice(1, { state: 'assigned' })],
        holders: [holder('squid', 2_001)],
        leases: [reserved(9_100, 'gone.service'), reserved(9_101, 'squid.service')],
        blocked,
      }),
    );
    await vi.waitFor(() => expect(world.applied.flatMap(({ clear = [] }) => clear)).toEqual(blocked));
    expect(world.told()).toContain('lease-9100 unit_gone');
    expect(world.told()).not.toContain('lease-9101 unit_gone');
  });
});

describe('a snapshot', () => {
  it('is made true, guard first, and reported', async () => {
    world.start();
    world.say(
      snapshot({
        slices: [slice(1, { state: 'assigning' })],
        leases: [lease(1), lease(2, { holder: 'fish', ports: { first: 9_000, last: 9_001 } })],
      }),
    );
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-1 active', 'lease-2 active', 'slice-1 assigned']));
    const steps = world.host.done.map(({ do: what }) => what);
    expect(steps.indexOf('load-ruleset')).toBeLessThan(steps.indexOf('add-address'));
    expect(world.blocks.at(-1)).toEqual(['lease-2']);
    expect(world.sockets.holdings()).toHaveLength(2);
    await vi.waitFor(() => expect(world.host.guardOpenMs).toBeGreaterThan(29_000));
    expect(world.agent.appliedRevision).toBe(10);
    expect(world.applied.at(-1)?.revision).toBe(10);
  });

  it('later on replaces everything: what is not in it goes', async () => {
    world.start();
    world.say(snapshot({ leases: [lease(1)] }));
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-1 active']));
    world.say(snapshot({ revision: 20, leases: [lease(2, { ports: { first: 8_192, last: 8_319 } })] }));
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-1 active', 'lease-2 active']));
    expect(world.host.elements('own_tcp4_128')).toEqual(['198.51.100.10 . 8192']);
  });
});

describe('changes', () => {
  beforeEach(async () => {
    world.start();
    world.say(snapshot());
    await vi.waitFor(() => expect(world.agent.appliedRevision).toBe(10));
  });

  it('are made true one after the other, and the revision follows', async () => {
    world.change({ kind: 'lease', lease: lease(11) });
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-11 active']));
    world.change({ kind: 'lease', lease: lease(11, { state: 'ending' }) });
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-11 active', 'lease-11 empty']));
    expect(world.agent.appliedRevision).toBe(12);
  });

  it('without anything to do only move the revision', async () => {
    const { observations } = world.host;
    world.say({ type: 'bookmark', revision: 25 });
    await vi.waitFor(() => expect(world.agent.appliedRevision).toBe(25));
    expect(world.host.observations).toBe(observations);
  });

  it('that the host will not take are tried again, and the rest waits for no restart', async () => {
    world.host.failOn = (step) => (step.do === 'add-address' ? 'ip: no' : undefined);
    world.change({ kind: 'slice', slice: slice(2, { address: '198.51.100.20', state: 'assigning' }) });
    await vi.waitFor(() => expect(world.agent.health().problem).toBe('ip: no'));
    expect(world.agent.appliedRevision).toBe(10);
    world.host.failOn = () => undefined;
    await vi.waitFor(() => expect(world.told()).toEqual(['slice-2 assigned']));
    expect(world.agent.health().problem).toBeNull();
  });

  it('that come while a failure is waited out are looked at soon, and not when that is over', async () => {
    vi.useFakeTimers();
    try {
      world.host.failOn = (step) => (step.do === 'add-address' ? 'ip: no' : undefined);
      world.change({ kind: 'slice', slice: slice(2, { address: '198.51.100.20', state: 'assigning' }) });
      await vi.advanceTimersByTimeAsync(30_000);
      const { failures } = world.agent.health();
      expect(failures).toBeGreaterThan(6);
      // In the middle of five seconds of nothing.
      while (world.agent.health().failures === failures) await vi.advanceTimersByTimeAsync(100);
      await vi.advanceTimersByTimeAsync(1_000);
      world.host.failOn = () => undefined;
      await vi.advanceTimersByTimeAsync(1_000);
      expect(world.told()).toEqual([]);
      world.change({ kind: 'lease', lease: lease(11) });
      await vi.advanceTimersByTimeAsync(200);
    } finally {
      vi.useRealTimers();
    }
    await vi.waitFor(() => expect(world.told()).toContain('lease-11 active'));
    expect(world.agent.health().failures).toBe(0);
  });

  it('of a slice that drains are answered when nothing of it is left, and its address goes with it', async () => {
    world.change({ kind: 'lease', lease: lease(11) });
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-11 active']));
    const socket = world.sockets.add(9_100);
    world.change({ kind: 'slice', slice: slice(1, { state: 'draining' }) });
    world.change({ kind: 'lease', lease: lease(11, { state: 'ending' }) });
    await vi.waitFor(() => expect(world.agent.leases.phaseOf('lease-11')).toBe('clearing'));
    expect(world.told()).toEqual(['lease-11 active']);
    world.sockets.remove(socket);
    await vi.waitFor(() => expect(world.told().slice(1)).toEqual(['lease-11 empty']));
    world.change({ kind: 'lease', lease: lease(11, { state: 'cooling' }) });
    await vi.waitFor(() => expect(world.told().slice(2)).toEqual(['slice-1 empty']));
    expect(world.host.addresses).toContain('198.51.100.10');
    world.change({ kind: 'slice', slice: slice(1, { state: 'cooling' }) });
    await vi.waitFor(() => expect(world.host.addresses).not.toContain('198.51.100.10'));
  });

  it('questions about flows are answered from fish', async () => {
    const query = {
      id: 'q1',
      protocol: 'tcp',
      address: '198.51.100.10',
      port: 9_000,
      remote_address: null,
      remote_port: null,
      at: instant,
    } as const;
    world.say({ type: 'query', query });
    await vi.waitFor(() =>
      expect(world.flowAnswers).toEqual([
        { id: 'q1', covers_since: instant, covers_through: instant, clock_margin_s: 0, flows: [] },
      ]),
    );
  });
});

describe('fish', () => {
  const withLease = snapshot({
    leases: [lease(1, { holder: 'fish', ports: { first: 9_000, last: 9_001 } }), lease(2)],
  });

  it('that dies is started again and gets its blocks back; a proxy does not notice', async () => {
    world.start();
    world.say(withLease);
    await vi.waitFor(() => expect(world.blocks).toEqual([['lease-1']]));
    const held = world.sockets.holdings();
    world.fishDies?.('out of memory');
    await vi.waitFor(() => expect(world.fishStarts).toBe(2));
    await vi.waitFor(() => expect(world.blocks).toEqual([['lease-1'], ['lease-1']]));
    expect(world.sockets.holdings()).toEqual(held);
  });

  it('whose keeper was lost takes its flows over from itself', async () => {
    world.start();
    world.say(withLease);
    await vi.waitFor(() => expect(world.blocks).toEqual([['lease-1']]));
    world.agent.fishLostItsKeeper();
    await vi.waitFor(() => expect(world.fishStarts).toBe(2));
    expect(world.fishLeft).toEqual([true]);
    await vi.waitFor(() => expect(world.blocks).toEqual([['lease-1'], ['lease-1']]));
  });

  it('whose keeper was lost holds its ports again, also while the host cannot be put in order', async () => {
    world.start();
    world.say(withLease);
    await vi.waitFor(() => expect(world.told()).toContain('lease-1 active'));
    const held = world.sockets.holdings();
    expect(held.length).toBeGreaterThan(0);
    world.host.failOn = (step) => (step.do === 'add-address' ? 'ip: no' : undefined);
    world.keeperHost.running.get(0)?.die();
    expect(world.sockets.holdings()).toEqual([]);
    world.change({ kind: 'slice', slice: slice(2, { address: '198.51.100.20', state: 'assigning' }) });
    await vi.waitFor(() => expect(world.agent.health().problem).toBe('ip: no'));
    expect(world.sockets.holdings()).toEqual(held);
    // Or the stop would wait for leases that cannot be given back.
    world.host.failOn = () => undefined;
  });

  it('ends its flows and lets go of its ports when the server is silent for longer than the horizon, and not before', async () => {
    world.fence_s = 1;
    world.start();
    world.say(withLease);
    await vi.waitFor(() => expect(world.told()).toContain('lease-1 active'));
    await vi.waitFor(() => expect(world.guard.isOpen).toBe(true));
    const held = world.sockets.holdings();
    world.isAnswered = false;
    await vi.waitFor(() => expect(world.guard.problem).toBe('away'));
    expect([world.fences, world.sockets.holdings()]).toEqual([0, held]);
    await vi.waitFor(() => expect(world.sockets.holdings()).toEqual([]), { timeout: 10_000 });
    expect(world.fences).toBeGreaterThan(0);
    expect(world.agent.leases.phaseOf('lease-1')).toBe('opening');
    expect(world.agent.leases.phaseOf('lease-2')).toBe('up');
    world.isAnswered = true;
    await vi.waitFor(() => expect(world.blocks.at(-1)).toEqual(['lease-1']), { timeout: 10_000 });
    expect([world.sockets.holdings(), world.agent.leases.phaseOf('lease-1')]).toEqual([held, 'up']);
    expect(world.fishStarts).toBe(1);
  });

  it('that cannot start keeps no proxy from its lease, and is tried again', async () => {
    world.fishFails = true;
    world.start();
    world.say(withLease);
    await vi.waitFor(() => expect(world.agent.health().problem).toContain('fish cannot be started: the TUN is busy'));
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-2 active']));
    world.fishFails = false;
    await vi.waitFor(() => expect(world.told()).toContain('lease-1 active'), { timeout: 5_000 });
  });

  it('that the settings took away leaves leases, which end in order and keep nothing from being well', async () => {
    await world.stop();
    world = new World(false);
    world.start();
    const fishs = (state: 'active' | 'ending') => lease(1, { holder: 'fish', state });
    world.say(snapshot({ leases: [fishs('active'), lease(2)] }));
    await vi.waitFor(() => expect(world.told()).toEqual(['lease-1 refused', 'lease-2 active']));
    expect([world.agent.leases.phaseOf('lease-1'), world.agent.health().failures]).toEqual(['refused', 0]);
    world.change({ kind: 'lease', lease: fishs('ending') });
    await vi.waitFor(() => expect(world.told()).toContain('lease-1 empty'));
    expect(world.agent.health().problem).toBeNull();
  });
});

describe('a planned stop', () => {
  const withLease = snapshot({
    leases: [lease(1, { holder: 'fish', ports: { first: 9_000, last: 9_001 } }), lease(2)],
  });

  it('gives back what fish has and says so, then shuts the guard and leaves the host as it is', async () => {
    world.start();
    world.say(withLease);
    await vi.waitFor(() => expect(world.told()).toHaveLength(2));
    await vi.waitFor(() => expect(world.host.guardOpenMs).toBeDefined());
    await world.stop();
    expect(world.ended).toBe(1);
    expect(world.told()).toContain('lease-1 empty');
    expect(world.sockets.holdings()).toEqual([]);
    expect(world.fishLeft).toEqual([false]);
    expect(world.host.guardOpenMs).toBeUndefined();
    expect(world.host.table).toBeDefined();
    expect(world.host.addresses).toContain('198.51.100.10');
  });

  it('keeps everything when told to: leases, and the guard open until its timeout', async () => {
    world.start(true);
    world.say(withLease);
    await vi.waitFor(() => expect(world.told()).toHaveLength(2));
    await vi.waitFor(() => expect(world.host.guardOpenMs).toBeDefined());
    await world.stop();
    expect(world.ended).toBe(0);
    expect(world.fishLeft).toEqual([true]);
    expect(world.host.guardOpenMs).toBeDefined();
    // Its sockets are in a keeper, for a successor.
    expect(world.sockets.holdings()).not.toEqual([]);
  });
});

describe('the status', () => {
  const tell = () =>
    statusOf({
      agent: world.agent,
      guard: world.guard,
      reports: world.reports,
      placeholders: world.placeholders,
      keepers: world.keepers,
      placeholders_max: 1_000,
      fishLeases: world.fishLeases,
      terminator: null,
      host: world.host,
      kernelTracer: null,
      version: '0.1.0',
      steering: null,
      serverUrl: 'http://127.0.0.1:7480',
      now: () => 5_000,
    });

  it('tells where things stand, and the metrics say the same', async () => {
    world.start();
    world.sockets.add(9_100, { uid: 33, state: 'listen', localAddress: '0.0.0.0' });
    world.say(snapshot({ leases: [lease(1), lease(2, { ports: { first: 8_192, last: 8_193 } })] }));
    await vi.waitFor(() => expect(world.told()).toHaveLength(2));
    await vi.waitFor(() => expect(world.guard.isOpen).toBe(true));
    const status = await tell();
    expect(status).toMatchObject({
      machine: 'edge',
      server: { problem: null },
      machine_state: 'active',
      guard: { open: true, fence_s: 30 },
      revision: { epoch: 'epoch', desired: 10, applied: 10 },
      lease_counts: { refused: 1, up: 1 },
      fish: { running: true, stats: { flows_live: 7 } },
      counters: { guard_uid: { packets: 3, bytes: 180 } },
    });
    // What is not up is what one looks for.
    expect(status.leases[0]).toMatchObject({
      lease: 'lease-1',
      phase: 'refused',
      detail: containing('EADDRINUSE'),
    });
    const text = await metricsText(status);
    expect(text).toContain('fishery_agent_leases{phase="refused"} 1');
    expect(text).toContain('# TYPE fishery_agent_packets_total counter');
    expect(text).toContain('fishery_agent_packets_total{counter="guard_uid"} 3');
    expect(text).toContain('fishery_agent_fish{name="flows_live"} 7');
    expect(text).toContain('fishery_agent_guard_open 1');
    expect(text).not.toContain('fishery_agent_broker');
  });

  it('is told without the numbers of fish, where that dies over the question', async () => {
    world.start();
    world.say(snapshot({ leases: [lease(1)] }));
    await vi.waitFor(() => expect(world.told()).toHaveLength(1));
    world.fishNumbers = () => Promise.reject(new Error('its keeper does not answer'));
    expect(await tell()).toMatchObject({
      machine: 'edge',
      lease_counts: { up: 1 },
      fish: { running: true, stats: {} },
    });
  });

  it('tells of a broker: what it granted and refused, what the server has not heard, and what is wrong', async () => {
    const broker = {
      ...{ running: true, problem: null, socket: '/x', leases: 7, granted: 9, ended: 2, connections: 3 },
      ...{ refused: { no_ports: 4, no_slices: 1 }, report_problem: 'ECONNREFUSED', report_problem_since: null },
      ...{ told_through: 5, told_s_ago: 12, untold: 8, rejected: 6 },
    };
    const status = agentStatus({ broker });
    const text = await metricsText(status);
    for (const line of [
      ...['running 1', 'problem 0', 'leases 7', 'leases_granted_total 9', 'leases_ended_total 2', 'connections 3'],
      ...['refusals_total{code="no_ports"} 4', 'refusals_total{code="no_slices"} 1', 'report_problem 1'],
      ...['told_seconds 12', 'changes_untold 8', 'reports_rejected_total 6'],
    ])
      expect(text).toContain(`fishery_agent_broker_${line}\n`);
    const silent = await metricsText({ ...status, broker: { ...broker, told_s_ago: null, untold: null } });
    expect(silent).not.toMatch(/broker_(told_seconds|changes_untold)/);
    expect(problemsIn(status)).toEqual([]);
    expect(problemsIn({ ...status, broker: { ...broker, problem: 'its table is lost' } })).toEqual([
      'its table is lost',
    ]);
    expect(problemsIn({ ...status, guard: { ...status.guard, open: false, problem: 'ECONNREFUSED' } })).toEqual([
      'the guard is shut: ECONNREFUSED',
    ]);
  });

  it('is not well without the leases it claims, with refused ones that are active, or at odds with the server', () => {
    const status = agentStatus();
    const fish = { ...status.fish!, claims: 3, answered: 1, problem: null };
    expect(problemsIn({ ...status, fish: { ...fish, answered: 3 } })).toEqual([]);
    expect(problemsIn({ ...status, fish })).toEqual(['fish has 1 of the 3 leases it claims']);
    expect(problemsIn({ ...status, fish: { ...fish, problem: 'no_ports' } })).toEqual([
      'fish has 1 of the 3 leases it claims: no_ports',
    ]);
    expect(problemsIn({ ...status, leases_refused: 2 })).toEqual([
      'this host refuses 2 leases that are active by the word of who granted them',
    ]);
    const guard = { ...status.guard, open: false, problem: 'away' };
    expect(problemsIn({ ...status, guard })).toEqual(['the guard is shut: away']);
    expect(problemsIn({ ...status, guard: { ...guard, stands: false } })).toEqual([
      "there is no guard: whoever is on this host may send with the pools' addresses that it has: away",
    ]);
    const reports = { ...status.reports, disputed: ['lease-7: already_active', 'lease-8: in_use'] };
    expect(problemsIn({ ...status, reports })).toEqual([
      'the server does not take what this host says of lease-7: already_active',
    ]);
  });
});
