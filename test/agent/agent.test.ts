import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Agent } from '../../src/agent/agent.ts';
import type { FishLeases } from '../../src/agent/fish-leases.ts';
import type { FishPort } from '../../src/agent/fish-port.ts';
import { GuardKeeper } from '../../src/agent/guard-keeper.ts';
import { nothingRecorded } from '../../src/agent/host-state.ts';
import { Reports } from '../../src/agent/reports.ts';
import { problemsIn, statusOf } from '../../src/agent/status.ts';
import { metricsText } from '../../src/agent/metrics.ts';
import { FisheryError, type Followed } from '../../src/sdk/index.ts';
import type { Applied, Change, FlowAnswer } from '../../src/wire/agent.ts';
import { desired, holder, instant, lease, slice, withFish, withoutFish } from '../support/agent-values.ts';
import { statusOf as agentStatus } from '../support/doctor-facts.ts';
import { FakeCgroups } from '../support/fake-cgroups.ts';
import { FakeHost } from '../support/fake-host.ts';
import { FakeKeepers, newPlaceholders } from '../support/fake-keepers.ts';
import { FakeSockets } from '../support/fake-sockets.ts';
import { containing } from '../support/matchers.ts';

type Body = Change extends infer C ? (C extends { revision: number } ? Omit<C, 'revision' | 'at'> : never) : never;

/** An agent on a host in memory, with a server that says what the test wants. */
class World {
  readonly host = new FakeHost();
  readonly sockets = new FakeSockets();
  readonly applied: Applied[] = [];
  readonly flowAnswers: FlowAnswer[] = [];
  readonly blocks: string[][] = [];
  /** Whether the server answers keepalives. */
  isAnswered = true;
  fences = 0;
  fence_s = 30;
  fishStarts = 0;
  /** A former agent has left some. */
  hasFlows = false;
  /** How fish was stopped: whether it left its flows. */
  readonly fishLeft: boolean[] = [];
  fishStopped = 0;
  fishFails = false;
  fishDies: ((reason: string) => void) | undefined;
  /** Thrown by the next follow, after what is queued. */
  refusal: FisheryError | undefined;
  ended = 0;
  revision = 10;
  recorded = nothingRecorded;
  readonly #events: Followed[] = [];
  #wake: (() => void) | undefined;
  readonly #stopping = new AbortController();
  running: Promise<void> | undefined;
  readonly log = pino({ level: 'silent' });
  readonly keeperHost = new FakeKeepers(this.sockets);
  readonly #kept = newPlaceholders(this.keeperHost, { mark: withFish.mark });
  readonly keepers = this.#kept.keepers;
  readonly placeholders = this.#kept.placeholders;
  readonly guard = new GuardKeeper(
    {
      send: async () => {
        if (!this.isAnswered) throw new Error('away');
        return { fence_s: this.fence_s };
      },
      open: (ms) => this.host.openGuard(ms),
      now: () => performance.now(),
      shut: () => this.host.shutGuard(),
      steady: () => performance.now(),
      log: this.log,
      onFence: (isFenced) => this.agent.setFenced(isFenced),
    },
    30,
  );
  readonly reports = new Reports({
    send: async (applied) => {
      this.applied.push(applied);
      return { revision: this.revision, rejected: [] };
    },
    isHopeless: () => false,
    pause: async () => {},
    log: this.log,
  });
  readonly fishLeases = {
    run: async () => {},
    look: () => {},
    end: async () => {
      this.ended++;
      for (const each of this.agent.desired.leases.values())
        if (each.holder === 'fish') this.change({ kind: 'lease', lease: { ...each, state: 'ending' } });
    },
    status: () => ({ session: null, claims: 0, answered: 0, problem: null, growth: [] }),
    refused: 0,
  } satisfies Pick<FishLeases, 'run' | 'look' | 'end' | 'status' | 'refused'>;
  readonly agent: Agent;

  constructor(hasFish = true) {
    const recordedOf = () => this.recorded;
    this.agent = new Agent({
      machine: 'edge',
      settings: hasFish ? withFish : withoutFish,
      families: [4, 6],
      host: this.host,
      cgroups: new FakeCgroups(),
      stateFile: {
        isBegun: true,
        get recorded() {
          return recordedOf();
        },
        record: (part) => {
          this.recorded = {
            sysctls: new Map([...this.recorded.sysctls, ...part.sysctls]),
            addresses: new Set([...this.recorded.addresses, ...part.addresses]),
            tun: part.tun ?? this.recorded.tun,
            tunBefore: part.tunBefore ?? this.recorded.tunBefore,
            rules: new Set([...this.recorded.rules, ...part.rules]),
          };
        },
        forget: (part) => {
          this.recorded = {
            ...this.recorded,
            addresses: new Set([...this.recorded.addresses].filter((each) => !part.addresses.includes(each))),
          };
        },
      },
      server: {
        follow: (signal) => this.#follow(signal),
        answerFlowQuery: async (answer) => void this.flowAnswers.push(answer),
        answerRequest: async () => {},
      },
      guard: this.guard,
      reports: this.reports,
      placeholders: this.placeholders,
      keepers: this.keepers,
      sockets: this.sockets,
      unitsGone: async (units) => new Set(units.filter((unit) => unit === 'gone.service')),
      terminator: null,
      fish: hasFish
        ? {
            starter: { start: () => this.#startFish(), hasFlows: () => this.hasFlows },
            leases: this.fishLeases,
          }
        : null,
      broker: null,
      log: this.log,
      now: () => performance.now(),
    });
  }

  say(event: Followed): void {
    this.#events.push(event);
    this.#wake?.();
  }

  change(body: Body): void {
    this.revision++;
    this.say({ type: 'change', change: { ...body, revision: this.revision, at: instant } });
  }

  start(keep = false): void {
    this.running = this.agent.run(this.#stopping.signal, keep);
    this.running.catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.running?.catch(() => {});
  }

  /** What was reported so far, in order. */
  told(): string[] {
    return this.applied.flatMap(({ leases, slices }) => [
      ...leases.map((each) => `${each.lease} ${each.state}`),
      ...slices.map((each) => `${each.slice} ${each.state}`),
    ]);
  }

  async *#follow(signal: AbortSignal): AsyncGenerator<Followed> {
    while (!signal.aborted) {
      for (const event of this.#events.splice(0)) yield event;
      if (this.refusal) {
        const { refusal } = this;
        this.refusal = undefined;
        throw refusal;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }

  async #startFish(): Promise<FishPort> {
    this.fishStarts++;
    if (this.fishFails) throw new Error('the TUN is busy');
    const { promise: died, resolve } = Promise.withResolvers<string>();
    this.fishDies = resolve;
    return {
      setBlocks: async (blocks) => {
        this.blocks.push(blocks.map((block) => block.lease));
        return [];
      },
      drain: async () => {},
      portUse: async () => ({ protocols: [], leases: [] }),
      holder: 'fish',
      flows: async () => ({ flows: [], truncated: false }),
      topTalkers: async () => [],
      busyRemotes: async () => [],
      startTrace: async () => false,
      readTrace: async () => ({ packets: [], isOver: true, wallOffsetMs: 0 }),
      fence: async () => {
        this.fences++;
        this.blocks.push([]);
        return 3;
      },
      answer: async (query) => ({
        id: query.id,
        covers_since: instant,
        covers_through: instant,
        clock_margin_s: 0,
        flows: [],
      }),
      stats: async () => ({ flows_live: 7 }),
      stop: async ({ leave = false } = {}) => {
        this.fishStopped++;
        this.fishLeft.push(leave);
      },
      died,
    };
  }
}

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());
const snapshot = (over: Parameters<typeof desired>[0] = {}): Followed => ({ type: 'snapshot', desired: desired(over) });

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
  it('tells where things stand, and the metrics say the same', async () => {
    world.start();
    world.sockets.add(9_100, { uid: 33, state: 'listen', localAddress: '0.0.0.0' });
    world.say(snapshot({ leases: [lease(1), lease(2, { ports: { first: 8_192, last: 8_193 } })] }));
    await vi.waitFor(() => expect(world.told()).toHaveLength(2));
    await vi.waitFor(() => expect(world.guard.isOpen).toBe(true));
    const status = await statusOf({
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
});
