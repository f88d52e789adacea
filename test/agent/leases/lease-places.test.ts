import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { ElasticLeases } from '../../../src/agent/leases/elastic-leases.ts';
import { FishClaim } from '../../../src/agent/fish/fish-claims.ts';
import { FishLeases } from '../../../src/agent/fish/fish-leases.ts';
import { LeasePlaces, type LeaseClient } from '../../../src/agent/leases/lease-places.ts';
import { bothOf } from '../../../src/agent/leases/lease-source.ts';
import type { PortUse } from '../../../src/fish/ports/port-use.ts';
import { broker_numbers_min } from '../../../src/leases/reported.ts';
import { FisheryError, type SessionLoss } from '../../../src/sdk/index.ts';
import type { Lease } from '../../../src/wire/leases.ts';
import { desired, instant, lease, session } from '../../support/agent-values.ts';

const failure = (code: string, status: number | null) =>
  new FisheryError(code, {
    code,
    retryable: status === null || status === 503,
    ...(status === null ? {} : { status }),
  });
const unreached = () => failure('unreachable', null);

/** Who grants, in as far as those who claim see it, and the agent's view of it. */
class Granter implements LeaseClient {
  readonly machine = new DesiredMachine('edge');
  readonly calls: string[] = [];
  /** Of every call of this kind, as long as it stands there. */
  readonly failing = new Map<string, () => FisheryError>();
  readonly #ended = new Set<string>();
  readonly #onGranted: () => void;
  #number: number;

  constructor(number: number, onGranted: () => void, left: readonly Lease[] = []) {
    this.#number = number;
    this.#onGranted = onGranted;
    this.machine.reset(desired({ revision: number, leases: [...left] }));
  }

  #call(name: string, what: string): void {
    this.calls.push(`${name} ${what}`);
    const fails = this.failing.get(name) ?? this.failing.get('*');
    if (fails) throw fails();
  }

  readonly sessions: LeaseClient['sessions'] = {
    open: async () => {
      this.#call('open', 'fish');
      return session(++this.#number, { holder: 'fish' });
    },
    keepalive: async (id) => {
      this.#call('keepalive', id);
      if (this.#ended.has(id)) throw failure('session_ended', 410);
      return session(1, { id, holder: 'fish' });
    },
    end: async (id) => {
      this.#call('end', id);
      return session(1, { id });
    },
  };

  readonly leases: LeaseClient['leases'] = {
    grant: async ({ session: of, claims: [claim] }) => {
      this.#call('grant', `${of ?? ''} ${claim?.protocol ?? ''}`);
      if (this.#ended.has(of ?? '')) throw failure('session_ended', 410);
      const granted = leaseIn(of ?? '', ++this.#number, claim?.protocol ?? 'tcp');
      this.tell(granted);
      return { leases: [granted], revision: this.#number };
    },
    release: async ({ id }) => {
      this.#call('release', id);
      return lease(1, { id });
    },
  };

  /** As when it expired. */
  endSession(id: string): void {
    this.#ended.add(id);
    for (const each of this.machine.leases.values()) if (each.session === id) this.tell({ ...each, state: 'ending' });
  }

  /** As with a table of its own that was lost: nothing is known of what there was, and numbers are later ones. */
  beginAnew(): void {
    for (const { session: of } of this.machine.leases.values()) this.#ended.add(of ?? '');
    this.#number += 1_000_000;
    this.machine.reset(desired({ revision: this.#number, leases: [] }));
    this.#onGranted();
  }

  tell(changed: Lease): void {
    const revision = ++this.#number;
    this.machine.apply({ kind: 'lease', revision, at: instant, lease: changed });
    this.#onGranted();
  }
}

const leaseIn = (of: string, number: number, protocol: Lease['protocol']): Lease =>
  lease(number, {
    ...{ holder: 'fish', session: of, protocol, mode: 'shared', binding: 'late', revision: number },
    ports: { first: 8_192, last: 8_192 + 7 },
  });

/** Fish's leases, the server and the broker of the host. */
class World {
  readonly server: Granter;
  readonly broker: Granter;
  readonly leases: FishLeases;
  readonly onLost = new Map<string, (loss: SessionLoss) => void>();
  use: PortUse | null = null;
  nowMs = 1_000_000;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;

  constructor({ left = [], hasBroker = true }: Readonly<{ left?: readonly Lease[]; hasBroker?: boolean }> = {}) {
    const look = () => this.leases.look();
    this.server = new Granter(10, look);
    this.broker = new Granter(broker_numbers_min + 10, look, left);
    this.server.failing.set('grant', () => failure('machine_allocates', 409));
    const log = pino({ level: 'silent' });
    const claims = (['tcp', 'udp'] as const).map((protocol) =>
      FishClaim.parse({
        protocol,
        mode: 'shared',
        ports: 8,
        ...(protocol === 'tcp' ? { grow: { ports_max: 32 } } : {}),
      }),
    );
    const who = 'fish';
    const places = new LeasePlaces({
      ...{ server: this.server, broker: hasBroker ? this.broker : null, machine: 'edge', who, holder: 'fish' },
      ...{ kind: 'fish', ttl_s: 30, log },
      keepAlive: (kept, signal, onLost) => {
        this.onLost.set(kept.id, onLost);
        signal.addEventListener('abort', () => this.onLost.delete(kept.id));
      },
    });
    const isRefused = () => false;
    this.leases = new FishLeases({
      ...{ places, who, holder: 'fish', claims, isRefused, log },
      growth: new ElasticLeases({
        ...{ places, who, claims, isRefused, log },
        portUse: async () => this.use,
        drain: async () => {},
        now: () => this.nowMs,
      }),
      pause: async () => {
        await new Promise((resolve) => setImmediate(resolve));
      },
    });
    const source = bothOf(this.server.machine, this.broker.machine);
    this.#running = this.leases.run(() => source, this.#stopping.signal);
  }

  async settled(): Promise<void> {
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.leases.look();
    await this.#running;
  }
}

const brokers = (kind: string, number: number) => `${kind}-${broker_numbers_min + number}`;
const theirs = brokers('session', 11);

let world: World;
const begin = async (...given: ConstructorParameters<typeof World>) => {
  await world.stop();
  world = new World(...given);
  await world.settled();
};
beforeEach(async () => {
  world = new World();
  await world.settled();
});
afterEach(() => world.stop());

describe('claims where the machine grants itself', () => {
  it('are had of its broker, under a session there', () => {
    expect(world.server.calls).toEqual(['open fish', 'grant session-11 tcp', 'grant session-11 udp']);
    expect(world.broker.calls).toEqual(['open fish', `grant ${theirs} tcp`, `grant ${theirs} udp`]);
    expect(world.leases.status()).toMatchObject({ answered: 2, problem: null });
    expect([...world.onLost.keys()].sort()).toEqual(['session-11', theirs].sort());
  });

  it('say how the holder is made where nobody has made it', async () => {
    await world.stop();
    world = new World();
    world.server.failing.set('open', () => failure('holder_not_found', 404));
    await world.settled();
    expect(world.leases.status()).toMatchObject({
      answered: 0,
      problem: 'holder_not_found: have it made by `fishery holders put edge fish --kind fish`',
    });
    world.server.failing.clear();
    await world.settled();
    expect(world.leases.status()).toMatchObject({ answered: 2, problem: null });
  });

  it('say why they are not had, where no broker is wanted', async () => {
    await begin({ hasBroker: false });
    expect(world.leases.status()).toMatchObject({ answered: 0, problem: 'machine_allocates' });
  });

  it('wait for a broker that is away, and say so; the server is asked for the others all the same', async () => {
    await world.stop();
    world = new World();
    world.broker.failing.set('*', unreached);
    await world.settled();
    expect(world.leases.status().problem).toMatch(/leaves it to this host's broker, which is not reached/);
    expect(world.server.calls.slice(0, 3)).toEqual(['open fish', 'grant session-11 tcp', 'grant session-11 udp']);
    world.broker.failing.clear();
    await world.settled();
    expect(world.leases.status()).toMatchObject({ answered: 2, problem: null });
  });

  it('are not asked of the broker for what the server refuses otherwise', async () => {
    await world.stop();
    world = new World();
    world.server.failing.set('grant', () => failure('quota_exceeded', 409));
    await world.settled();
    expect(world.broker.calls).toEqual([]);
    expect(world.leases.status().problem).toBe('quota_exceeded');
  });

  it('go on growing while the server is away', async () => {
    world.server.failing.set('*', unreached);
    const [tcp] = [...world.broker.machine.leases.values()];
    const { id = '' } = tcp ?? {};
    world.use = {
      protocols: [{ protocol: 'tcp', family: 4, ports: 8, portsDraining: 0, busiest: 8, refused: 0 }],
      leases: [{ lease: id, flows: 8, draining: false }],
    };
    world.nowMs += 1_000;
    world.leases.look();
    await world.settled();
    expect(world.broker.calls.at(-1)).toBe(`grant ${theirs} tcp`);
    expect(world.leases.status().growth).toMatchObject([{ ports: 16, leases: 1, problem: null }]);
  });

  it('are taken over from a former agent with their session, without a word to the server', async () => {
    const [first, second, other] = [1, 2, 3].map((number) =>
      leaseIn(brokers('session', 1), broker_numbers_min + number, number === 1 ? 'tcp' : 'udp'),
    ) as [Lease, Lease, Lease];
    await begin({ left: [first, second, other] });
    expect(world.broker.calls).toEqual([`keepalive ${brokers('session', 1)}`, `release ${other.id}`]);
    expect(world.server.calls).toEqual([]);
    expect(world.leases.status()).toMatchObject({ session: brokers('session', 1), answered: 2 });
  });

  it('are claimed anew when the session there is over, and only they', async () => {
    world.server.failing.delete('grant');
    const [, udp] = [...world.broker.machine.leases.values()] as [Lease, Lease];
    world.broker.tell({ ...udp, state: 'ending' });
    await world.settled();
    expect(world.server.calls.at(-1)).toBe('grant session-11 udp');
    world.server.failing.set('grant', () => failure('machine_allocates', 409));
    world.broker.endSession(theirs);
    await world.settled();
    expect(world.broker.calls.at(-1)).toMatch(/^grant session-\d+ tcp$/);
    expect(world.broker.calls.at(-1)).not.toBe(`grant ${theirs} tcp`);
    expect(world.server.calls.filter((call) => call === 'grant session-11 udp')).toHaveLength(2);
    expect(world.leases.status()).toMatchObject({ answered: 2, problem: null });
  });

  it('are claimed anew of a broker that began anew', async () => {
    world.broker.beginAnew();
    await world.settled();
    expect(world.broker.calls.filter((call) => call === 'open fish')).toHaveLength(2);
    expect(world.leases.status()).toMatchObject({ answered: 2, problem: null });
  });

  it('stay when the session at the server is over', async () => {
    const before = world.broker.calls.length;
    const error = failure('timeout', null);
    world.onLost.get('session-11')?.({ session: 'session-11', reason: 'expired', detail: 'late', error });
    await world.settled();
    expect(world.broker.calls).toHaveLength(before);
    expect(world.leases.status()).toMatchObject({ session: theirs, answered: 2, problem: null });
  });

  it('go with both sessions at the end, whichever cannot be ended', async () => {
    world.server.failing.set('end', unreached);
    await expect(world.leases.end()).rejects.toThrow('unreachable');
    expect(world.broker.calls.at(-1)).toBe(`end ${theirs}`);
    await world.leases.end();
    expect(world.broker.calls.filter((call) => call.startsWith('end'))).toHaveLength(1);
  });
});
