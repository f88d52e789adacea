import { pino } from 'pino';
import { describe, expect, it, vi } from 'vitest';
import { DesiredMachine } from '../../src/agent/server/desired.ts';
import { Terminate } from '../../src/agent/settings/settings-terminate.ts';
import { joinAnswers } from '../../src/agent/fish/flow-answers.ts';
import { TerminatorOnHost, type TerminatorLink } from '../../src/agent/terminator-on-host.ts';
import { err, ok, type Result } from '../../src/net/result.ts';
import type { Operation, Operations, TerminateUse } from '../../src/terminate/protocol.ts';
import type { FlowAnswer as LogAnswer } from '../../src/fish/log/flow-log.ts';
import type { FlowAnswer } from '../../src/wire/agent.ts';
import type { Address } from '../../src/net/address.ts';
import { desired, instant, lease } from '../support/agent-values.ts';

const settings = Terminate.parse({ claims: [{ protocol: 'tcp', mode: 'shared' }], connect_timeout_s: 3 });
const leaseOf = (number: number, over: object = {}) =>
  lease(number, { holder: 'terminator', protocol: 'tcp', mode: 'shared', binding: 'late', ...over });

class World {
  readonly told: string[] = [];
  readonly up = new Set<string>();
  readonly followed: string[] = [];
  readonly onDisk: LogAnswer = {
    ...{ verdict: 'match', truncated: false, coversSince: 0, coversThrough: 9_000_000_000_000_000, marginUs: 0 },
    matches: [
      {
        ...{ lease: 'lease-1', protocol: 'tcp', client: '100.64.0.2' as Address, clientPort: 1 },
        ...{ address: '198.51.100.10' as Address, port: 9_000, remote: '203.0.113.1' as Address, remotePort: 80 },
        ...{ openedAt: 1_000, closedAt: 2_000, ending: 'cut' },
      },
    ],
  };
  next: Result<TerminatorLink, string>[] = [];
  begun = 0;
  kicks = 0;
  nowMs = 0;
  readonly desired = new DesiredMachine('edge');
  readonly terminator = new TerminatorOnHost({
    settings,
    leases: {
      run: async () => {},
      look: () => {},
      end: async () => {},
      status: () => ({ session: 'session-1', claims: 1, answered: 1, problem: null, growth: [] }),
      refused: 0,
    },
    begin: async () => {
      this.begun++;
      return this.next.shift() ?? err('nobody can be started');
    },
    isUp: (id) => this.up.has(id),
    flows: {
      follow: async (path) => void this.followed.push(path),
      ended: async () => void this.followed.push('ended'),
      leave: async () => void this.followed.push('left'),
      complete: async (_query, answer) => answer ?? this.onDisk,
      stats: () => ({ disk_bytes: 1 }),
      problem: null,
    },
    log: pino({ level: 'silent' }),
    now: () => this.nowMs,
  });

  link(o: Readonly<{ uid?: number | null; port?: number; log?: string; refuses?: string; use?: TerminateUse }> = {}) {
    const gone = Promise.withResolvers<undefined>();
    const link: TerminatorLink = {
      hello: { protocol: 1, version: '0', pid: 77, port: o.port ?? 7_490, uid: o.uid ?? null, log: o.log ?? null },
      gone: gone.promise,
      ask: async <Op extends Operation>(operation: Op, ask: Operations[Op]['ask']) => {
        if (operation === 'configure') {
          const { uid, leases, settings: told } = ask as Operations['configure']['ask'];
          this.told.push(`configure ${uid} ${told.connect_timeout_s} ${leases.map(({ id }) => id).join(' ')}`);
        } else this.told.push(operation);
        if (o.refuses !== undefined && operation === 'configure') throw new Error(o.refuses);
        if (operation === 'stop') gone.resolve(undefined);
        const answers = { portUse: o.use, configure: { log: o.log ?? '/run/its.flows' } };
        return (operation in answers ? answers[operation as keyof typeof answers] : null) as Operations[Op]['answer'];
      },
      close: () => this.told.push('close'),
    };
    this.next.push(ok(link));
    return { die: () => gone.resolve(undefined) };
  }

  /** As the agent does: as often as there is something to do. */
  async look(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      this.terminator.look(this.desired, () => this.kicks++);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  set(holder: object | null, ...leases: ReturnType<typeof leaseOf>[]): void {
    const base = desired({ leases });
    const holders = base.holders.slice(0, 1).map((each) => ({ ...each, name: 'terminator', ...holder }));
    this.desired.reset({ ...base, holders: holder === null ? [] : holders });
  }
}
const known = { kind: 'terminator', uid: 2_000, cgroup: null };

describe('the terminator of a host', () => {
  it('is started when the server knows whom it is to become, and told the leases that are up', async () => {
    const world = new World();
    world.link();
    world.set(known, leaseOf(1), leaseOf(2), leaseOf(3, { holder: 'web' }), leaseOf(4, { state: 'ending' }));
    for (const id of ['lease-1', 'lease-3', 'lease-4']) world.up.add(id);
    await world.look();
    expect(world.told).toEqual(['configure 2000 3 lease-1']);
    // When it was there, and when it had been told.
    expect(world.kicks).toBe(2);
    world.up.add('lease-2');
    await world.look();
    await world.look();
    expect(world.told.slice(1)).toEqual(['configure 2000 3 lease-1 lease-2']);
    world.set(known, leaseOf(2));
    await world.look();
    expect(world.told.slice(2)).toEqual(['configure 2000 3 lease-2']);
  });

  it.each([
    [null, 'knows no holder terminator on this machine'],
    [{ kind: 'proxy', uid: 2_000 }, 'is a proxy'],
    [{ kind: 'terminator', uid: null }, 'is not known by a user id'],
    [{ kind: 'terminator', uid: 0 }, "is not known by a user id other than root's"],
  ])('waits for a holder that it can be: %j', async (holder, problem) => {
    const world = new World();
    world.link();
    world.set(holder);
    await world.look();
    expect(world.begun).toBe(0);
    expect((await world.terminator.status()).problem).toContain(problem);
  });

  it('is started again when it is gone, later and later while that fails', async () => {
    const world = new World();
    const { die } = world.link();
    world.set(known);
    await world.look();
    die();
    await vi.waitFor(async () => expect((await world.terminator.status()).problem).toContain('is gone'));
    expect(world.terminator.nextLookInMs()).toBe(500);
    await world.look();
    expect(world.begun).toBe(1);
    world.nowMs = 500;
    await world.look();
    expect(world.begun).toBe(2);
    expect((await world.terminator.status()).problem).toBe('nobody can be started');
    expect(world.terminator.nextLookInMs()).toBe(1_000);
    world.link();
    world.nowMs = 1_500;
    await world.look();
    expect(await world.terminator.status()).toMatchObject({ running: true, problem: null, starts: 3 });
  });

  it.each([
    ['another user', { uid: 1_999 }],
    ['on another port', { port: 7_000 }],
  ])('is replaced where the one at work is %s for good', async (_what, link) => {
    const world = new World();
    world.link(link);
    world.link();
    world.set(known);
    await world.look();
    expect(world.told).toEqual(['stop']);
    world.nowMs = 10_000;
    await world.look();
    expect(world.told).toEqual(['stop', 'configure 2000 3 ']);
  });

  it('has its connections written to disk, whoever began with it, until it is gone; what is there then is told', async () => {
    const world = new World();
    const { die } = world.link({ log: '/run/before.flows', uid: 2_000 });
    world.set(known);
    await world.look();
    expect(world.followed).toEqual(['/run/before.flows', '/run/before.flows']);
    die();
    await vi.waitFor(() => expect(world.followed.at(-1)).toBe('ended'));
    const query = {
      ...{ id: 'q', protocol: 'tcp' as const, address: '198.51.100.10', port: 9_000 },
      ...{ remote_address: null, remote_port: null, at: instant },
    };
    expect(await world.terminator.answer(query)).toMatchObject({
      flows: [{ holder: 'terminator', client: '100.64.0.2', remote_port: 80 }],
    });
    expect(await world.terminator.status()).toMatchObject({ flow_log: { disk_bytes: 1 } });
  });

  it('that will not be what it should be is let go, and the status says why', async () => {
    const world = new World();
    world.link({ refuses: 'it cannot become user 2000' });
    world.set(known);
    await world.look();
    expect(world.told).toEqual(['configure 2000 3 ', 'close']);
    expect(await world.terminator.status()).toMatchObject({ running: false, problem: 'it cannot become user 2000' });
  });

  it('past the horizon ends its connections and is told of no lease, until the server answers again', async () => {
    const world = new World();
    world.link();
    world.set(known, leaseOf(1));
    world.up.add('lease-1');
    await world.look();
    world.terminator.setFenced(true);
    await world.look();
    await world.look();
    world.terminator.setFenced(false);
    await world.look();
    expect(world.told).toEqual(['configure 2000 3 lease-1', 'fence', 'configure 2000 3 ', 'configure 2000 3 lease-1']);
  });

  it('tells how its ports are used, and keeps what is new away from leases that drain', async () => {
    const world = new World();
    expect(await world.terminator.portUse()).toBeNull();
    world.link({
      use: {
        families: [
          { family: 4, busiest: 60, refused: 2 },
          { family: 6, busiest: 0, refused: 0 },
        ],
        leases: [
          { lease: 'lease-1', flows: 60 },
          { lease: 'lease-2', flows: 1 },
        ],
      },
    });
    const ports = (first: number) => ({ ports: { first, last: first + 127 } });
    world.set(known, leaseOf(1, ports(8_192)), leaseOf(2, ports(8_320)));
    for (const id of ['lease-1', 'lease-2']) world.up.add(id);
    await world.look();
    const tcp = { protocol: 'tcp', portsDraining: 0 };
    expect(await world.terminator.portUse()).toEqual({
      protocols: [
        { ...tcp, family: 4, ports: 256, busiest: 60, refused: 2 },
        { ...tcp, family: 6, ports: 0, busiest: 0, refused: 0 },
      ],
      leases: [
        { lease: 'lease-1', flows: 60, draining: false },
        { lease: 'lease-2', flows: 1, draining: false },
      ],
    });
    world.terminator.drain(['lease-2']);
    // It counts when it was told, and not before.
    expect((await world.terminator.portUse())?.leases[1]).toMatchObject({ draining: false });
    await world.look();
    expect(world.told.filter((line) => line.startsWith('configure'))).toEqual([
      'configure 2000 3 lease-1 lease-2',
      'configure 2000 3 lease-1',
    ]);
    expect(await world.terminator.portUse()).toMatchObject({
      protocols: [{ ports: 128 }, {}],
      leases: [{ draining: false }, { lease: 'lease-2', draining: true }],
    });
  });

  it('is left alone, or ended, with the agent; and is not started again', async () => {
    for (const leave of [true, false]) {
      const world = new World();
      world.link();
      world.set(known);
      await world.look();
      await world.terminator.stop({ leave });
      await world.look();
      expect(world.told.slice(1)).toEqual(leave ? ['close'] : ['stop', 'close']);
      expect(world.followed.slice(1)).toEqual(leave ? ['left'] : ['ended', 'left']);
      expect([world.begun, world.terminator.nextLookInMs()]).toEqual([1, undefined]);
    }
  });

  it('knows that it has no datagrams, whenever that was; and nothing while nobody has asked it', async () => {
    const world = new World();
    const query = {
      ...{ id: 'q', protocol: 'udp' as const, address: '198.51.100.10', port: 9_000 },
      ...{ remote_address: null, remote_port: null, at: instant },
    };
    expect(await world.terminator.answer(query)).toMatchObject({ covers_since: null });
    world.link();
    world.set(known);
    await world.look();
    expect(await world.terminator.answer(query)).toMatchObject({
      covers_since: '1970-01-01T00:00:00.000000Z',
      flows: [],
    });
  });
});

describe('answers of several logs', () => {
  const answer = (
    since: string | null,
    through: string | null,
    clients: readonly string[],
    margin = 0,
  ): FlowAnswer => ({
    id: 'x',
    covers_since: since,
    covers_through: through,
    clock_margin_s: margin,
    flows: clients.map((client) => ({
      ...{ holder: 'fish', lease: null, client, remote_address: '203.0.113.1' as Address, remote_port: 1 },
      ...{ opened_at: '2026-01-01T00:00:00.000000Z', closed_at: null },
    })),
  });

  it('are all that they found, and cover what all of them cover', () => {
    const joined = joinAnswers('q', [
      answer('2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:09.000000Z', ['a'], 0.002),
      answer('2026-01-01T00:00:01.000000Z', '2026-01-01T00:00:08.000000Z', ['b'], 0.005),
    ]);
    expect(joined).toMatchObject({
      id: 'q',
      covers_since: '2026-01-01T00:00:01.000000Z',
      covers_through: '2026-01-01T00:00:08.000000Z',
      clock_margin_s: 0.005,
      flows: [{ client: 'a' }, { client: 'b' }],
    });
  });

  it('cover nothing where one knows nothing, and are still what the others found', () => {
    const joined = joinAnswers('q', [
      answer(null, null, []),
      answer('2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:01.000000Z', ['a']),
    ]);
    expect(joined).toMatchObject({ covers_since: null, covers_through: null, flows: [{ client: 'a' }] });
  });
});
