import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../src/agent/desired.ts';
import { FishLeases, type FishClaim } from '../../src/agent/fish-leases.ts';
import { FisheryError, type SessionLoss } from '../../src/sdk/index.ts';
import type { Change } from '../../src/wire/agent.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { desired, instant, lease, session } from '../support/agent-values.ts';

const claims: readonly FishClaim[] = [
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

  constructor() {
    const call = (name: string, text: string) => {
      this.calls.push(`${name} ${text}`);
      const failure = this.failures.get(name)?.shift();
      if (failure) throw failure;
    };
    this.leases = new FishLeases({
      client: {
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
      },
      machine: 'edge',
      holder: 'fish',
      ttl_s: 30,
      claims,
      keepAlive: (_session, _signal, onLost) => (this.onLost = onLost),
      isRefused: (id) => this.refusedHere.has(id),
      pause: async () => {
        this.pauses++;
        await new Promise((resolve) => setImmediate(resolve));
      },
      log: pino({ level: 'silent' }),
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
    expect(world.leases.status()).toEqual({ session: 'session-11', claims: 2, answered: 2, problem: null });
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
