import { once } from 'node:events';
import { cpSync, existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { check } from '../../src/db/check/check.ts';
import { openSnapshot } from '../../src/db/snapshot.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { isFisheryError } from '../../src/sdk/index.ts';
import { formatInstant } from '../../src/wire/instants.ts';
import type { BrokerPosition } from '../../src/wire/broker.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { holder } from '../support/agent-values.ts';
import { BrokerWorld, ownSlice, until } from '../support/broker-world.ts';

let w: BrokerWorld;
beforeEach(async () => {
  w = await BrokerWorld.open();
  w.tell = async ({ broker_epoch, through }) => ({
    ok: true,
    answer: { broker_epoch, through, page: 0, rejected: [] },
  });
});
afterEach(async () => {
  await w[Symbol.asyncDispose]();
});

const open = () => w.client().sessions.open({ machine: 'edge', holder: 'web', ttl_s: 60 });
const grant = async (session: string, ports = 8, wait: 'stored' | 'applied' = 'stored'): Promise<Lease> => {
  const { leases } = await w.client().leases.grant({ session, claims: [{ protocol: 'tcp', ports }] }, { wait });
  const [lease] = leases;
  if (!lease) throw new Error('nothing was granted');
  return lease;
};
const codeOf = async (asked: Promise<unknown>): Promise<string> => {
  try {
    await asked;
    return 'done';
  } catch (error) {
    if (isFisheryError(error)) return error.code;
    throw error;
  }
};
const empty = (slice = 1, generation = 1) =>
  w.broker.applied({ revision: 0, leases: [], slices: [{ slice: `slice-${slice}`, generation, state: 'empty' }] });

describe('a broker', () => {
  it('grants on its socket in slices that the server handed over, and not before they are assigned', async () => {
    expect(await codeOf(open())).toBe('machine_cut_off');
    expect(await w.mirror()).toBe(true);
    await w.confirmed();
    const session = await open();
    expect(await codeOf(grant(session.id))).toBe('no_slices');
    w.put(ownSlice(1, { state: 'assigned' }));
    await w.mirror();
    const lease = await grant(session.id);
    expect(lease).toMatchObject({ state: 'pending', slice: 'slice-1', machine: 'edge', holder: 'web' });
    expect(statSync(w.socket).mode & 0o777).toBe(0o666);
    expect((await w.client().slices.get('slice-1')).allocator).toBe('machine');
  });

  it('answers when the agent has made a lease true, and lets it rest when nobody is on it', async () => {
    await w.ready();
    await w.obey();
    const session = await open();
    const lease = await grant(session.id, 8, 'applied');
    expect(lease.state).toBe('active');
    await w.client().leases.release(lease);
    await until(async () => ['cooling', 'ended'].includes((await w.client().leases.get(lease.id)).state));
    await w.client().sessions.end(session.id);
    expect(await codeOf(w.client().sessions.keepalive(session.id))).toBe('session_ended');
  });

  it('does what the server is for with a word of where to ask', async () => {
    await w.ready();
    expect(await codeOf(w.client().pools.list())).toBe('not_found');
    expect(await codeOf(w.client().machines.update({ id: 'edge', revision: '*' }, { state: 'lost' }))).toBe(
      'not_at_broker',
    );
  });

  it('carries out what comes again under its key once, also over a restart', async () => {
    await w.ready();
    const session = await open();
    const ask = () =>
      w
        .client()
        .leases.grant(
          { session: session.id, claims: [{ protocol: 'tcp', ports: 1 }] },
          { wait: 'stored', idempotencyKey: 'once' },
        );
    const first = await ask();
    await w.stop();
    await w.start();
    await w.mirror();
    await w.confirmed();
    expect((await ask()).leases.map(({ id }) => id)).toEqual(first.leases.map(({ id }) => id));
    expect((await w.client().leases.list()).items).toHaveLength(1);
  });

  it('grants nothing while the machine is cut off, and keeps what it granted', async () => {
    await w.ready();
    const session = await open();
    const lease = await grant(session.id);
    w.cutOff = 'no keepalive was answered for 30 s, since 14:03:07';
    const refused = await w
      .client()
      .leases.grant({ session: session.id, claims: [{ protocol: 'tcp' }] })
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({
      status: 503,
      code: 'machine_cut_off',
      problem: { detail: w.cutOff, retry_after_s: 2 },
    });
    expect(await codeOf(open())).toBe('machine_cut_off');
    expect((await w.client().sessions.keepalive(session.id)).state).toBe('live');
    expect((await w.client().leases.release(lease)).state).toBe('ending');
    w.cutOff = undefined;
    await grant(session.id);
  });

  it('opens no session while the guard shuts: whoever asked is told so, and nothing is left of it', async () => {
    await w.ready();
    const stop = await w.broker.follow((granted) => {
      if (granted.type === 'change' && granted.change.kind === 'session') w.cutOff = 'the guard is shut';
    });
    expect(await codeOf(open())).toBe('machine_cut_off');
    stop();
    expect((await w.client().sessions.list()).items).toMatchObject([{ state: 'ended', ending: 'released' }]);
    w.cutOff = undefined;
    expect((await open()).state).toBe('live');
  });

  it('grants nothing when the machine was cut off before the request was there as a whole', async () => {
    await w.ready();
    const session = await open();
    const body = JSON.stringify({ session: session.id, claims: [{ protocol: 'tcp' }] });
    const headers = { 'content-type': 'application/json', 'content-length': body.length, expect: '100-continue' };
    const path = '/v1/leases?wait=stored';
    const sent = request({ socketPath: w.socket, method: 'POST', path, headers, agent: false });
    sent.flushHeaders();
    await once(sent, 'continue');
    w.cutOff = 'the guard is shut';
    sent.end(body);
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    expect(await json(answer)).toMatchObject({ status: 503, code: 'machine_cut_off', detail: w.cutOff });
    expect((await w.client().leases.list()).items).toEqual([]);
  });

  it.each(['stored', 'active', 'refused'] as const)(
    'gives back what was granted when the machine is cut off before the answer (%s)',
    async (until) => {
      await w.ready();
      const session = await open();
      await w.broker.follow((granted) => {
        if (granted.type !== 'change' || granted.change.kind !== 'lease') return;
        const { id: lease, token, state } = granted.change.lease;
        if (state !== 'pending') return;
        w.cutOff ??= 'the guard is shut';
        const said = { lease, token };
        const refused = { ...said, state: 'refused', errno: 'EADDRINUSE', detail: 'taken' } as const;
        const outcome = until === 'refused' ? refused : ({ ...said, state: 'active' } as const);
        if (until !== 'stored') void w.broker.applied({ revision: 0, leases: [outcome], slices: [] });
      });
      expect(await codeOf(grant(session.id, 8, until === 'stored' ? 'stored' : 'applied'))).toBe('machine_cut_off');
      const { items } = await w.client().leases.list();
      expect(items).toHaveLength(1);
      expect(items.filter(({ state }) => state === 'pending' || state === 'active')).toEqual([]);
    },
  );

  it('gives a session its whole time after a restart', async () => {
    await w.ready();
    const { id } = await w.client().sessions.open({ machine: 'edge', holder: 'web', ttl_s: 2 });
    await w.stop();
    // Longer than it lives.
    await new Promise((resolve) => setTimeout(resolve, 2_200));
    await w.start();
    await w.mirror();
    expect((await w.client().sessions.keepalive(id)).state).toBe('live');
  });

  it('listens in nobody else’s place: a file that is no socket stays', async () => {
    await w.stop();
    writeFileSync(w.socket, 'a token');
    await expect(w.start()).rejects.toThrow(`${w.socket} is there, and is no socket: name another path`);
    expect(statSync(w.socket).isFile()).toBe(true);
    rmSync(w.socket);
    await w.start();
  });

  it('is no use to whoever it does not know, and says as whom it was asked', async () => {
    await w.ready();
    w.word.holders = w.word.holders.map((known) => ({ ...known, uid: 2_999 }));
    if (process.geteuid?.() !== 0) expect(await codeOf(open())).toBe('unknown_user');
    const answer = await w.broker.app.inject({ method: 'GET', url: '/v1/leases' });
    expect(answer.json()).toMatchObject({ status: 403, code: 'unknown_user' });
    expect((await w.broker.app.inject({ method: 'GET', url: '/healthz' })).statusCode).toBe(200);
    expect((await w.broker.app.inject({ method: 'GET', url: '/metrics' })).body).toContain('fishery_store_writable 1');
  });
});

describe('the status of a broker', () => {
  it('says what of the word of the server is not in the table, until it is', async () => {
    await w.ready();
    const session = await open();
    await grant(session.id);
    expect(w.broker.status().problem).toBeNull();
    w.word.holders = w.word.holders.filter(({ name }) => name === 'mail');
    expect(await w.mirror()).toBe(false);
    expect(w.broker.status().problem).toMatch(/^what the server says is not in the table yet: deleteHolder: /);
    await w.obey();
    await w.client().sessions.end(session.id);
    await until(() => w.mirror());
    expect(w.broker.status().problem).toBeNull();
  });

  it('says that its table is gone', async () => {
    await w.stop();
    let reason: string | null = null;
    const startEngine: typeof openEngine = async (...how) => {
      const engine = await openEngine(...how);
      const { leases } = engine;
      const { execute, onEvents } = { execute: leases.execute.bind(leases), onEvents: leases.onEvents.bind(leases) };
      return { ...engine, leases: { execute, onEvents, health: () => ({ ...leases.health(), reason }) } };
    };
    await w.start({ startEngine });
    expect(w.broker.status().problem).toBeNull();
    reason = "the engine's thread ended with code 1";
    expect(w.broker.status().problem).toBe(`the broker's table is out of order: ${reason}`);
  });

  it('says which of its leases the server does not take, until it takes them or they are over', async () => {
    await w.ready();
    await w.obey();
    let isTaken = false;
    w.tell = async ({ broker_epoch, through, leases = [] }) => {
      const rejected = leases.map(({ id }) => ({
        item: id,
        code: 'not_allocated' as const,
        detail: 'not of this machine',
      }));
      return { ok: true, answer: { broker_epoch, through, page: 0, rejected: isTaken ? [] : rejected } };
    };
    const session = await open();
    const [lease] = [await grant(session.id, 8, 'applied'), await grant(session.id, 8, 'applied')];
    const says = (problem: string | null) => until(() => w.broker.status().problem === problem);
    await says('the server does not take 2 leases that were granted here');
    await w.client().leases.release(lease);
    await says('the server does not take 1 leases that were granted here');
    isTaken = true;
    await w.client().sessions.end(session.id);
    await says(null);
    expect(w.broker.status().rejected).toBeGreaterThanOrEqual(2);
  });

  it('says nothing of a lease that is over, also when the answer to the report of its end was lost', async () => {
    await w.ready();
    await w.obey();
    const { tell } = w;
    w.tell = async ({ broker_epoch, through, leases = [] }) => {
      const rejected = leases.map(({ id }) => ({
        item: id,
        code: 'not_allocated' as const,
        detail: 'not of this machine',
      }));
      return { ok: true, answer: { broker_epoch, through, page: 0, rejected } };
    };
    const [lease, other] = [await grant((await open()).id, 8, 'applied'), await grant((await open()).id, 8, 'applied')];
    const says = (problem: string | null) => until(() => w.broker.status().problem === problem);
    await says('the server does not take 2 leases that were granted here');
    // It has heard of the end, which nobody knows here; what comes next does not follow.
    let heard = 0;
    w.tell = async ({ broker_epoch, after, through }) => {
      if (after >= heard && heard > 0) return { ok: true, answer: { broker_epoch, through, page: 0, rejected: [] } };
      if (heard > 0) return { ok: false, gap: { broker_epoch, through: heard, page: 0 } };
      heard = through;
      return { ok: false, problem: 'the answer is lost' };
    };
    await w.client().leases.release(lease);
    await says('the server does not take 1 leases that were granted here');
    w.tell = tell;
    await w.client().leases.release(other);
    await says(null);
  });

  it('tells how much of its log the server has not heard of, and since when', async () => {
    await w.ready();
    await until(() => w.broker.status().untold === 0);
    expect(w.broker.status()).toMatchObject({ report_problem: null, report_problem_since: null });
    const { tell } = w;
    w.tell = async () => ({ ok: false, problem: 'the server is away' });
    const before = Date.now();
    await grant((await open()).id);
    await until(() => w.broker.status().report_problem !== null);
    const { report_problem_since, untold } = w.broker.status();
    expect(Date.parse(report_problem_since ?? '')).toBeGreaterThanOrEqual(before - 1_000);
    expect(untold).toBeGreaterThan(0);
    w.tell = tell;
    await until(() => w.broker.status().untold === 0);
    expect(w.broker.status()).toMatchObject({ report_problem: null, report_problem_since: null, told_s_ago: 0 });
  });

  it('counts what it granted, and what it refused by code, and tells the server', async () => {
    await w.ready();
    await w.obey();
    const session = await open();
    const lease = await grant(session.id, 8, 'applied');
    for (let count = 0; count < 3; count++) expect(await codeOf(grant(session.id, 2_048))).toBe('no_ports');
    expect(await codeOf(grant('session-1'))).toBe('session_not_found');
    await w.client().leases.release(lease);
    await until(async () => (await w.broker.counts()).ended === 1);
    expect(await w.broker.counts()).toEqual({ granted: 1, ended: 1, refused: { no_ports: 3, session_not_found: 1 } });
    await w.stop();
    w.reports.length = 0;
    await w.start();
    await until(() => w.reports.some(({ counters }) => counters !== undefined));
  });
});

describe('what the server decides', () => {
  it('is taken over: its pools, the machine, its holders', async () => {
    await w.ready();
    const session = await open();
    w.word.state = 'cordoned';
    await w.mirror();
    expect(await codeOf(grant(session.id))).toBe('machine_not_active');
    w.word.state = 'active';
    w.word.pools = w.word.pools.map((pool) => ({ ...pool, shared_block_ports: 16 }));
    await w.mirror();
    const shared = { session: session.id, claims: [{ protocol: 'tcp' as const, mode: 'shared' as const }] };
    const [lease] = (await w.client().leases.grant(shared, { wait: 'stored' })).leases;
    expect((lease?.ports.last ?? 0) - (lease?.ports.first ?? 0)).toBe(15);
    // A holder that something lives of stays until that is over.
    w.word.holders = w.word.holders.filter(({ name }) => name === 'mail');
    expect(await w.mirror()).toBe(false);
    await w.obey();
    await w.client().sessions.end(session.id);
    await until(() => w.mirror());
  });

  it('ends a slice as its terms say, which is given up when it is durable that nothing lives in it', async () => {
    await w.ready();
    const session = await open();
    const lease = await grant(session.id);
    await w.broker.applied({
      revision: 0,
      leases: [{ lease: lease.id, token: lease.token, state: 'active' }],
      slices: [],
    });
    w.put(ownSlice(1, { state: 'draining', drain_by: new Date(Date.now() + 300).toISOString().replace('Z', '000Z') }));
    expect(await w.mirror()).toBe(true);
    expect(await codeOf(grant(session.id))).toBe('no_slices');
    await until(async () => (await w.client().leases.get(lease.id)).state === 'ending');
    expect((await empty()).rejected).toMatchObject([{ code: 'in_use' }]);
    expect(w.broker.isGivenUp('slice-1', 1)).toBe(false);
    await w.broker.applied({
      revision: 0,
      leases: [{ lease: lease.id, token: lease.token, state: 'empty' }],
      slices: [],
    });
    w.tell = async () => ({ ok: false, problem: 'the server is away' });
    expect((await empty()).rejected).toEqual([]);
    expect(w.broker.isGivenUp('slice-1', 1)).toBe(false);
    await w.stop();
    w.tell = async ({ broker_epoch, through }) => ({
      ok: true,
      answer: { broker_epoch, through, page: 0, rejected: [] },
    });
    await w.start();
    await until(() => w.broker.isGivenUp('slice-1', 1));
    expect(w.broker.status().problem).toBeNull();
    // An old word, of a server that was restored, does not bring it back; the next generation does.
    w.put(ownSlice(1, { state: 'assigned' }));
    await w.mirror();
    expect(await codeOf(grant(session.id))).toBe('no_slices');
    expect(w.broker.status().problem).toContain(
      'the server has slice-1 assigned in generation 1, which was given back',
    );
    expect(w.broker.isAdopted('slice-1', 1)).toBe(false);
    expect(w.broker.isOver('slice-1', 1)).toBe(true);
    w.put(ownSlice(1, { state: 'assigning', generation: 2 }));
    await until(() => w.mirror());
    expect(w.broker.isAdopted('slice-1', 2)).toBe(true);
    expect(w.broker.status().problem).toBeNull();
  });

  it('keeps a deadline by the clock of the server, though its own is an hour ahead', async () => {
    await w.ready();
    const session = await open();
    const lease = await grant(session.id);
    w.serverNowUs = () => undefined;
    const by = Date.now() - 3_600_000 + 500;
    w.put(ownSlice(1, { state: 'draining', drain_by: formatInstant(by * 1_000) }));
    expect(await w.mirror()).toBe(false);
    expect((await w.client().slices.get('slice-1')).drain_by).toBeNull();
    expect((await w.client().leases.get(lease.id)).state).toBe('pending');
    w.serverNowUs = () => (Date.now() - 3_600_000) * 1_000;
    expect(await w.mirror()).toBe(true);
    expect((await w.client().leases.get(lease.id)).state).toBe('pending');
    const { drain_by } = await w.client().slices.get('slice-1');
    expect(Date.parse(drain_by ?? '') - Date.now()).toBeLessThanOrEqual(500);
    await until(async () => (await w.client().leases.get(lease.id)).state === 'ending');
  });

  it('has the fence of its machine as the server has it, also when that changes', async () => {
    await w.ready();
    expect((await w.client().machines.get('edge')).fence_s).toBe(30);
    w.word.fence_s = 90;
    await w.mirror();
    expect((await w.client().machines.get('edge')).fence_s).toBe(90);
  });

  it('takes a slice without being asked when it names it no more', async () => {
    await w.ready();
    const session = await open();
    const lease = await grant(session.id);
    w.word.slices = [];
    await w.mirror();
    await until(async () => (await w.client().leases.get(lease.id)).ending === 'fenced');
    await until(() => w.broker.isGivenUp('slice-1', 1));
  });
});

describe('a table that is lost', () => {
  const clear = (protocol: 'tcp') =>
    w.broker.applied({
      ...{ revision: 0, leases: [], slices: [] },
      clear: [{ slice: 'slice-1', generation: 1, protocol, ports: { first: 8_192, last: 10_239 } }],
    });
  const blockedNow = async () => {
    const extents = await w.client().slices.extents('slice-1');
    return extents.extents.map(({ protocol, state }) => `${protocol} ${state}`);
  };

  it.each([
    ['damaged', () => writeFileSync(join(w.table, 'fishery.db'), 'this is no database')],
    ['older than what was answered', () => writeFileSync(join(w.table, 'fishery.mark'), 'nonsense')],
  ])('because it is %s, is put aside; its ports are in doubt until nobody is on them', async (_what, spoil) => {
    await w.ready();
    const { ports } = await w.client().slices.get('slice-1');
    const before = await grant((await open()).id);
    const { epoch } = w.broker;
    await w.stop();
    spoil();
    await w.start();
    await w.mirror();
    await w.confirmed();
    expect(existsSync(`${w.table}.lost`)).toBe(true);
    expect(w.broker.epoch).not.toBe(epoch);
    expect(await blockedNow()).toEqual(['tcp blocked', 'udp blocked', 'icmp blocked']);
    const session = await open();
    expect(await codeOf(grant(session.id))).toBe('no_ports');
    expect(await codeOf(w.client().leases.release(before))).toBe('lease_not_found');
    expect(ports).toEqual({ first: 8_192, last: 10_239 });
    expect((await clear('tcp')).rejected).toEqual([]);
    await until(async () => (await codeOf(grant(session.id))) === 'done');
    expect((await blockedNow()).filter((extent) => extent.endsWith('blocked'))).toEqual([
      'udp blocked',
      'icmp blocked',
    ]);
    await w.stop();
    await using snapshot = await openSnapshot({ url: undefined, directory: w.table });
    expect((await check(snapshot)).flaws).toEqual([]);
  });
});

describe('a table that was restored with all that lies beside it', () => {
  /** What a server remembers of a broker. */
  let position: BrokerPosition;
  beforeEach(() => {
    position = { broker_epoch: null, through: 0, page: 0 };
    w.tell = async ({ broker_epoch, after, through, snapshot }) => {
      const follows = snapshot ?? (position.broker_epoch === broker_epoch && position.through === after);
      if (!follows) return { ok: false, gap: position };
      position = { broker_epoch, through, page: 0 };
      return { ok: true, answer: { ...position, broker_epoch, rejected: [] } };
    };
  });
  const backup = () => `${w.table}.backup`;
  const restart = async (meanwhile: () => void = () => {}) => {
    await w.stop();
    meanwhile();
    await w.start();
  };
  const copy = () => {
    rmSync(backup(), { recursive: true, force: true });
    cpSync(w.table, backup(), { recursive: true });
  };
  const restore = () => {
    rmSync(w.table, { recursive: true });
    cpSync(backup(), w.table, { recursive: true });
  };
  const hasHeard = (lease: Lease) => until(() => position.through >= lease.revision);

  it('grants nothing until the server has said how far it had come', async () => {
    await w.ready();
    const { id } = await open();
    await until(() => position.through > 0);
    const answers = w.tell;
    await w.stop();
    w.tell = async () => ({ ok: false, problem: 'the server is away' });
    await w.start();
    await w.mirror();
    expect(await codeOf(open())).toBe('machine_cut_off');
    expect(await codeOf(grant(id))).toBe('machine_cut_off');
    expect((await w.client().sessions.keepalive(id)).state).toBe('live');
    w.tell = answers;
    await w.confirmed();
    await grant(id);
    expect(w.losses).toBe(0);
  });

  it('is put aside, though what was done since hides what it lacks: nothing is given twice', async () => {
    await w.ready();
    const session = await open();
    await restart(copy);
    await w.mirror();
    await w.confirmed();
    const before = await grant(session.id);
    await hasHeard(before);
    await w.stop();
    restore();
    const answers = w.tell;
    w.tell = async () => ({ ok: false, problem: 'the server is away' });
    await w.start();
    // As many changes as were lost, before the server can say anything.
    for (let left = 2_003; left < 2_009; left++) {
      w.word.holders = [...w.word.holders.filter(({ name }) => name === 'web'), holder('mail', left)];
      await w.mirror();
    }
    w.tell = answers;
    await until(() => w.losses > 0);
    expect(await codeOf(grant(session.id))).toBe('machine_cut_off');
    expect(w.broker.status().problem).toMatch(/^it was restored: it ends at revision/);
    await restart();
    expect(existsSync(`${w.table}.lost`)).toBe(true);
    await w.mirror();
    await w.confirmed();
    expect(await codeOf(grant((await open()).id))).toBe('no_ports');
    expect(await codeOf(w.client().leases.get(before.id))).toBe('lease_not_found');
    expect(position.broker_epoch).toBe(w.broker.epoch);
    expect(w.losses).toBe(1);
  });

  it('is put aside when another had taken its place', async () => {
    await w.ready();
    await hasHeard(await grant((await open()).id));
    await restart(() => {
      copy();
      writeFileSync(join(w.table, 'fishery.mark'), 'nonsense');
    });
    await w.confirmed();
    const { epoch } = w.broker;
    await restart(restore);
    expect(w.broker.epoch).not.toBe(epoch);
    await until(() => w.losses > 0);
    expect(w.broker.status().problem).toContain(epoch);
    await restart();
    await w.confirmed();
    expect(w.losses).toBe(1);
  });

  it('stays what it is when the server was restored, and is told anew', async () => {
    await w.ready();
    const session = await open();
    const { through } = position;
    await hasHeard(await grant(session.id));
    const { epoch } = w.broker;
    for (const restored of [
      { broker_epoch: epoch, through },
      { broker_epoch: null, through: 0 },
    ]) {
      position = { ...restored, page: 0 };
      await restart();
      await w.mirror();
      await w.confirmed();
      await hasHeard(await grant(session.id));
    }
    expect([w.losses, w.broker.epoch]).toEqual([0, epoch]);
  });
});
