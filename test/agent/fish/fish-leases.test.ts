import type { z } from 'zod';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { ElasticLeases } from '../../../src/agent/leases/elastic-leases.ts';
import { FishClaim } from '../../../src/agent/fish/fish-claims.ts';
import { FishLeases } from '../../../src/agent/fish/fish-leases.ts';
import { LeasePlaces, type LeaseClient } from '../../../src/agent/leases/lease-places.ts';
import { FisheryError, type SessionLoss } from '../../../src/sdk/index.ts';
import type { PortUse } from '../../../src/fish/ports/port-use.ts';
import type { Change } from '../../../src/wire/agent.ts';
import type { Lease } from '../../../src/wire/leases.ts';
import { desired, instant, lease, session } from '../../support/agent-values.ts';

const claims: readonly z.input<typeof FishClaim>[] = [
  { protocol: 'tcp', mode: 'shared', ports: 100 },
  { protocol: 'udp', mode: 'exclusive', ports: 64 },
];

/** The server in as far as fish's leases see it, and the agent's view of it. */
class World {
  readonly machine = new DesiredMachine('edge');
  readonly calls: string[] = [];
  /** Errors of the next calls of a kind, in order. */
  readonly failures = new Map<string, FisheryError[]>();
  readonly refusedHere = new Set<string>();
  pauses = 0;
  onLost: ((loss: SessionLoss) => void) | undefined;
  /** Grants are seen by the agent at once, unless they are held back. */
  holdsBack = false;
  revision = 10;
  readonly leases: FishLeases;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;

  /** What fish says of its ports, and what it was told to drain. */
  use: PortUse | null = { protocols: [], leases: [] };
  drained: readonly string[] = [];
  nowMs = 1_000_000;
  readonly #claims: readonly FishClaim[];

  constructor(given: readonly z.input<typeof FishClaim>[] = claims) {
    this.#claims = given.map((claim) => FishClaim.parse(claim));
    const call = (name: string, text: string) => {
      this.calls.push(`${name} ${text}`);
      const failure = this.failures.get(name)?.shift();
      if (failure) throw failure;
    };
    const client: LeaseClient = {
      sessions: {
        open: async () => {
          call('open', 'fish');
          return session(++this.revision, { holder: 'fish' });
        },
        keepalive: async (id) => {
          call('keepalive', id);
          return session(Number(id.slice('session-'.length)), { holder: 'fish' });
        },
        end: async (id) => {
          call('end', id);
          return session(1, { id });
        },
      },
      leases: {
        grant: async (body) => {
          const [claim] = body.claims;
          call('grant', `${body.session ?? ''} ${claim?.protocol ?? ''}`);
          const granted = this.grantOf(body.session ?? '', claim as FishClaim);
          if (!this.holdsBack) this.tell(granted);
          return { leases: [granted], revision: this.revision };
        },
        release: async ({ id }) => {
          call('release', id);
          return lease(1, { id });
        },
      },
    };
    const isRefused = (id: string) => this.refusedHere.has(id);
    const log = pino({ level: 'silent' });
    const places = new LeasePlaces({
      ...{ server: client, broker: null, machine: 'edge', who: 'fish', holder: 'fish', ttl_s: 30, log },
      kind: 'fish',
      keepAlive: (_session, _signal, onLost) => (this.onLost = onLost),
    });
    this.leases = new FishLeases({
      places,
      who: 'fish',
      holder: 'fish',
      claims: this.#claims,
      growth: new ElasticLeases({
        who: 'fish',
        ...{ places, claims: this.#claims, isRefused, log },
        portUse: async () => this.use,
        drain: async (ids) => void (this.drained = ids),
        now: () => this.nowMs,
      }),
      isRefused,
      pause: async () => {
        this.pauses++;
        await new Promise((resolve) => setImmediate(resolve));
      },
      log,
    });
  }

  grantOf(id: string, claim: FishClaim): Lease {
    const size = 2 ** Math.ceil(Math.log2(claim.ports ?? 1));
    return lease(++this.revision, {
      holder: 'fish',
      session: id,
      protocol: claim.protocol,
      mode: claim.mode,
      binding: claim.mode === 'shared' ? 'late' : null,
      ports: { first: 8_192, last: 8_192 + size - 1 },
    });
  }

  tell(changed: Lease): void {
    this.revision++;
    const change: Change = { kind: 'lease', revision: this.revision, at: instant, lease: changed };
    this.machine.apply(change);
    this.leases.look();
  }

  async start(...already: Lease[]): Promise<void> {
    this.machine.reset(desired({ revision: this.revision, leases: already }));
    this.#running = this.leases.run(() => this.machine, this.#stopping.signal);
    await settle();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.leases.look();
    await this.#running;
  }

  fail(name: string, ...errors: FisheryError[]): void {
    this.failures.set(name, errors);
  }
}
const settle = async () => {
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
};
const error = (code: string, status: number | null, retryable = false) =>
  new FisheryError(code, { code, retryable, ...(status === null ? {} : { status }) });

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());

describe("fish's leases", () => {
  it('are claimed under a session of its own, one by one', async () => {
    await world.start();
    expect(world.calls).toEqual(['open fish', 'grant session-11 tcp', 'grant session-11 udp']);
    expect(world.leases.status()).toEqual({ session: 'session-11', claims: 2, answered: 2, problem: null, growth: [] });
  });

  it('are taken over from a former agent, and completed', async () => {
    await world.start(world.grantOf('session-3', claims[0] as FishClaim));
    expect(world.calls).toEqual(['keepalive session-3', 'grant session-3 udp']);
  });

  it('that the settings do not claim any more are given back', async () => {
    const other = world.grantOf('session-3', { protocol: 'tcp', mode: 'exclusive', ports: 8 });
    await world.start(
      world.grantOf('session-3', claims[0] as FishClaim),
      world.grantOf('session-3', claims[1] as FishClaim),
      other,
    );
    expect(world.calls).toEqual(['keepalive session-3', `release ${other.id}`]);
  });

  it('begin anew when the former session is over', async () => {
    world.fail('keepalive', error('session_ended', 410));
    await world.start(world.grantOf('session-3', claims[0] as FishClaim));
    expect(world.calls.slice(0, 2)).toEqual(['keepalive session-3', 'open fish']);
    expect(world.leases.status().answered).toBe(2);
  });

  it('are asked for again while the server is not there', async () => {
    world.fail('open', error('unreachable', null, true), error('unreachable', null, true));
    await world.start();
    expect(world.pauses).toBe(2);
    expect(world.leases.status()).toMatchObject({ answered: 2, problem: null });
  });

  it('that cannot be had do not keep the others waiting', async () => {
    world.fail('grant', error('no_ports', 409), error('no_ports', 409), error('no_ports', 409));
    await world.start();
    // tcp, udp: refused; then tcp again, refused; then both.
    expect(world.calls.filter((call) => call.startsWith('grant'))).toEqual([
      'grant session-11 tcp',
      'grant session-11 udp',
      'grant session-11 tcp',
      'grant session-11 udp',
      'grant session-11 tcp',
    ]);
    expect(world.leases.refused).toBe(2);
    expect(world.leases.status().answered).toBe(2);
  });

  it.each(['refused', 'ending', 'ended'] as const)('are claimed again when one is %s', async (state) => {
    await world.start();
    const lost = [...world.machine.leases.values()].find((each) => each.protocol === 'udp') as Lease;
    world.tell({ ...lost, state });
    await settle();
    expect(world.calls.at(-1)).toBe('grant session-11 udp');
    expect(world.leases.status().answered).toBe(2);
    // Whatever is wrong must not eat the slice at the speed of the network.
    expect(world.pauses).toBe(1);
  });

  it('are not taken for lost before the agent has heard of them', async () => {
    world.holdsBack = true;
    await world.start();
    world.leases.look();
    await settle();
    expect(world.calls.filter((call) => call.startsWith('grant'))).toHaveLength(2);
  });

  it('that this host refuses after all, although they are active, are given back and claimed elsewhere', async () => {
    await world.start();
    const useless = [...world.machine.leases.values()].find((each) => each.protocol === 'udp') as Lease;
    world.refusedHere.add(useless.id);
    world.tell({ ...useless, state: 'active' });
    await settle();
    expect(world.calls.slice(-2)).toEqual([`release ${useless.id}`, 'grant session-11 udp']);
  });

  it.each([
    ['is over for the server, too', [error('session_ended', 410)], ['keepalive', 'open', 'grant', 'grant']],
    ['lives on for the server after all', [], ['keepalive']],
  ])('after the session was lost: when it %s', async (_what, failures, expected) => {
    await world.start();
    world.fail('keepalive', ...failures);
    world.onLost?.({ session: 'session-11', reason: 'expired', detail: 'late', error: error('timeout', null) });
    await settle();
    expect(world.calls.slice(3).map((call) => call.split(' ')[0])).toEqual(expected);
    expect(world.leases.status().answered).toBe(2);
  });

  it('go with the session at the end', async () => {
    await world.start();
    await world.leases.end();
    await world.leases.end();
    expect(world.calls.filter((call) => call.startsWith('end'))).toEqual(['end session-11']);
  });
});

describe('claims that may grow', () => {
  const elastic: readonly z.input<typeof FishClaim>[] = [
    { protocol: 'tcp', mode: 'shared', ports: 8, grow: { ports_max: 24, hold_s: 10, drain_s: 60 } },
    { protocol: 'udp', mode: 'exclusive', ports: 8 },
  ];
  const grants = () => world.calls.filter((call) => call.startsWith('grant'));
  const growth = () => world.leases.status().growth[0];
  const tcpLeases = () => [...world.machine.leases.values()].filter(({ protocol }) => protocol === 'tcp');
  /** Fish says that so many ports are used toward the busiest destination, and how many flows each lease has. */
  const look = async (busiest: number, flows: Readonly<Record<string, number>> = {}, refused = 0) => {
    const own = tcpLeases().map(({ id }) => ({
      ...{ lease: id, flows: flows[id] ?? 0, draining: world.drained.includes(id) },
    }));
    const ports = { ports: own.length * 8, portsDraining: 0 };
    world.use = { protocols: [{ protocol: 'tcp', family: 4, ...ports, busiest, refused }], leases: own };
    world.nowMs += 1_000;
    world.leases.look();
    await settle();
  };
  beforeEach(async () => {
    await world.start();
    await world.stop();
    world = new World(elastic);
    await world.start();
  });

  it('are asked for more at the high mark, and before anybody was refused', async () => {
    await look(6);
    expect(grants()).toHaveLength(2);
    await look(7);
    expect(grants()).toHaveLength(3);
    expect(growth()).toMatchObject({ claim: '0: tcp shared', ports: 16, ports_max: 24, busiest: 7, leases: 1 });
    // Of two leases, more than four fifths again.
    await look(13);
    expect(grants()).toHaveLength(4);
    await look(24);
    expect(grants()).toHaveLength(4);
    expect(growth()?.problem).toBe('all 24 ports that it may have are needed (ports_max)');
    await look(10);
    expect(growth()?.problem).toBeNull();
  });

  it('are asked for more when flows were refused, however few there are', async () => {
    await look(2, {}, 0);
    expect(grants()).toHaveLength(2);
    await look(2, {}, 1);
    expect(grants()).toHaveLength(3);
    await look(2, {}, 1);
    expect(grants()).toHaveLength(3);
  });

  it('say why they cannot have more, and ask again later and later', async () => {
    world.fail('grant', error('no_ports', 409), error('no_ports', 409));
    await look(8);
    expect(growth()).toMatchObject({ ports: 8, problem: 'no more ports: no_ports' });
    await look(8);
    expect(grants()).toHaveLength(4);
    await look(8);
    expect(grants()).toHaveLength(4);
    await look(8);
    expect(grants()).toHaveLength(5);
    expect(growth()).toMatchObject({ ports: 16, problem: null });
    expect(world.leases.status()).toMatchObject({ answered: 2, problem: null });
  });

  it('drain a lease at the low mark, and give it back when it has no flows', async () => {
    await look(7);
    const [, added] = tcpLeases().map(({ id }) => id) as [string, string];
    await look(1, { [added]: 2 });
    world.nowMs += 8_000;
    await look(1, { [added]: 2 });
    expect(world.drained).toEqual([]);
    await look(1, { [added]: 2 });
    expect(world.drained).toEqual([added]);
    expect(growth()).toMatchObject({ leases: 1, draining: 1 });
    await look(1, { [added]: 1 });
    expect(world.calls).not.toContain(`release ${added}`);
    await look(1, { [added]: 0 });
    expect(world.calls).toContain(`release ${added}`);
    expect(growth()).toMatchObject({ ports: 8, leases: 0, draining: 0 });
  });

  it('take a draining lease back before they ask for another', async () => {
    await look(7);
    const [, added] = tcpLeases().map(({ id }) => id) as [string, string];
    await look(1);
    world.nowMs += 10_000;
    await look(1);
    expect(world.drained).toEqual([added]);
    await look(7, { [added]: 1 });
    expect(world.drained).toEqual([]);
    expect(grants()).toHaveLength(3);
  });

  it('tell a new fish what drains', async () => {
    await look(7);
    const [, added] = tcpLeases().map(({ id }) => id) as [string, string];
    await look(1);
    world.nowMs += 10_000;
    await look(1, { [added]: 3 });
    world.drained = [];
    await look(1, { [added]: 3 });
    expect(world.drained).toEqual([added]);
    world.use = null;
    world.nowMs += 1_000;
    world.leases.look();
    await settle();
    expect(growth()).toMatchObject({ draining: 1 });
  });

  it('that were more are taken over from a former agent', async () => {
    const claim = FishClaim.parse(elastic[0]);
    const [base, added, other] = [1, 2, 3].map((first) => ({
      ...world.grantOf('session-3', { ...claim, ports: first === 3 ? 16 : 8 }),
    })) as [Lease, Lease, Lease];
    await world.stop();
    world = new World(elastic);
    await world.start(base, added, other);
    expect(world.calls).toContain(`release ${other.id}`);
    expect(world.calls).not.toContain(`release ${added.id}`);
    expect(growth()).toMatchObject({ leases: 1 });
  });

  it('lose what is lost, and all of it with the session', async () => {
    await look(7);
    const [, added] = tcpLeases() as [Lease, Lease];
    world.tell({ ...added, state: 'ending' });
    await look(1);
    expect(growth()).toMatchObject({ leases: 0 });
    await look(7);
    expect(growth()).toMatchObject({ leases: 1 });
    world.fail('keepalive', ...Array.from({ length: 4 }, () => error('session_ended', 410)));
    world.onLost?.({ session: 'session-11', reason: 'expired', detail: 'late', error: error('timeout', null) });
    await settle();
    expect(growth()).toMatchObject({ leases: 0 });
  });
});

describe('a claim in the settings', () => {
  it.each([
    ['marks the wrong way round', { ports_max: 64, low_water: 0.9, high_water: 0.5 }],
    ['no room to grow', { ports_max: 8 }],
    ['a mark of nothing', { ports_max: 64, high_water: 0 }],
    ['a word that nobody knows', { ports_max: 64, highwater: 0.5 }],
  ])('is refused with %s', (_what, grow) => {
    expect(FishClaim.safeParse({ protocol: 'tcp', ports: 8, grow }).success).toBe(false);
  });

  it('has sound marks without saying so', () => {
    expect(FishClaim.parse({ protocol: 'tcp', ports: 8, grow: { ports_max: 64 } }).grow).toEqual({
      ...{ ports_max: 64, high_water: 0.8, low_water: 0.3, hold_s: 60, drain_s: 600 },
    });
  });
});
