import { beforeEach, describe, expect, it } from 'vitest';
import { LeaseService } from '../../src/leases/lease-service.ts';
import type { Session } from '../../src/leases/model.ts';
import { ledger, second, shared, tcp, World } from '../support/world.ts';

let w: World;
let web: Session;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31']);
  await w.machine('edge-1');
  await w.holder('edge-1', 'web');
  await w.holder('edge-1', 'fish', 'fish');
  await w.ready('edge-1', 'v4');
  web = await w.session('edge-1', 'web', 30);
});

describe('a session', () => {
  it('is opened for a holder that is there, by who may', async () => {
    const open = async (machine: string, holder: string, scope = {}) => {
      const result = await w.execute({ kind: 'openSession', scope, machine, holder, ttlUs: second });
      return result.ok ? result.value.state : result.error.code;
    };
    const asAgent = { machine: 'edge-1', runByAgent: true };
    await ledger([
      ['an operator', () => open('edge-1', 'web'), 'live'],
      ['the holder', () => open('edge-1', 'web', { machine: 'edge-1', holder: 'web' }), 'live'],
      ['the agent, for its fish', () => open('edge-1', 'fish', asAgent), 'live'],
      ['its terminator', () => w.holder('edge-1', 'terminator', 'terminator', 2_100), 'terminator 2100'],
      ['the agent, for that', () => open('edge-1', 'terminator', asAgent), 'live'],
      ['the agent, for a proxy', () => open('edge-1', 'web', asAgent), 'not_yours'],
      ['another holder', () => open('edge-1', 'web', { machine: 'edge-1', holder: 'fish' }), 'not_yours'],
      ['an unknown machine', () => open('edge-9', 'web'), 'machine_not_found'],
      ['an unknown holder', () => open('edge-1', 'nobody'), 'holder_not_found'],
    ]);
  });

  it('goes on as long as it is kept alive in time: late is late', () =>
    ledger([
      ['29 s later', () => w.clock.passSeconds(29), undefined],
      ['in time', () => w.keep(web), 'until +30 s'],
      ['30 s later', () => w.clock.passSeconds(30), undefined],
      ['too late, although nobody has ended it yet', () => w.keep(web), 'session_ended'],
      ['nor can it be released any more', () => w.end(web), 'session_ended'],
      ['the sweeper writes it down', () => w.sweep(), 1],
      ['expired', async () => (await w.store.reader.session(web.id))?.ending, 'expired'],
    ]));

  it('is kept alive without a word in the log', async () => {
    const events = w.events.length;
    const { revision } = web;
    await w.keep(web);
    expect(w.events.length).toBe(events);
    expect((await w.store.reader.session(web.id))?.revision).toBe(revision);
  });

  it('is touched by its own only', () =>
    ledger([
      ['another machine', () => w.keep(web, { machine: 'edge-2' }), 'not_yours'],
      ['another holder', () => w.end(web, 'released', { machine: 'edge-1', holder: 'fish' }), 'not_yours'],
      ['an unknown one', () => w.keep({ id: 999 }), 'session_not_found'],
      ['its holder', () => w.end(web, 'released', { machine: 'edge-1', holder: 'web' }), 'ended released'],
      ['once', () => w.end(web), 'session_ended'],
    ]));

  it('ends all its leases with one row and one event', async () => {
    const leases = await w.leases(web, tcp(1), tcp(2), tcp(4), shared());
    const [first] = leases;
    if (!first) throw new Error('no lease');
    await w.report(first, 'active');
    const before = w.events.length;
    await w.end(web, 'revoked');
    expect(w.events.slice(before).map(({ kind }) => kind)).toEqual(['session']);
    // Their own rows have not followed, and nobody can tell.
    for (const lease of leases) expect(await w.look(lease)).toMatch(/ ending revoked$/);
    expect(await w.release(first)).toBe('lease_over');
    expect(
      (await w.store.reader.leases({ session: web.id, state: 'active' }, { limit: 9, cursor: null })).items,
    ).toEqual([]);
    expect((await w.store.reader.desired('edge-1'))?.leases.map(({ state }) => state)).toEqual(Array(4).fill('ending'));
    expect((await w.store.reader.lease(first.id))?.endingAt).toBe(w.events.at(-1)?.at);
  });

  it('is settled in bounded steps, without further events where an agent has to report', async () => {
    const leases = await w.leases(web, ...Array.from({ length: 10 }, () => tcp(1)));
    await w.end(web);
    const before = w.events.length;
    const sweep = () => w.execute({ kind: 'sweep', itemsMax: 4 }).then((swept) => (swept.ok ? swept.value : swept));
    const unsettled = { moved: 4 + 1, more: true };
    await ledger([
      ['the first four', sweep, unsettled],
      ['the next four', sweep, unsettled],
      ['the rest', sweep, { moved: 2 + 1, more: false }],
      ['nothing is left', sweep, { moved: 0, more: false }],
    ]);
    expect(w.events.length).toBe(before);
    expect((await w.store.reader.session(web.id))?.settled).toBe(true);
    const [lease] = leases;
    if (!lease) throw new Error('no lease');
    await ledger([
      ['it waits for the proof', () => w.look(lease), '198.51.100.0:4095/tcp ending released'],
      ['empty', () => w.report(lease, 'empty'), 'taken'],
      ['it rests', () => w.look(lease), '198.51.100.0:4095/tcp cooling released'],
    ]);
  });

  it('may have its leases reported empty before they are settled', async () => {
    const [lease] = await w.leases(web, tcp(1));
    if (!lease) throw new Error('no lease');
    await w.end(web, 'revoked');
    await ledger([
      ['empty', () => w.report(lease, 'empty'), 'taken'],
      ['it rests', () => w.look(lease), '198.51.100.0:4095/tcp cooling revoked'],
      ['the sweep leaves it alone', () => w.sweep(), 1],
      ['still', () => w.look(lease), '198.51.100.0:4095/tcp cooling revoked'],
    ]);
  });

  it('sends its leases to their rest at once where nobody enforces', async () => {
    await w.machine('bare', 'none');
    await w.holder('bare', 'web', 'proxy', null);
    await w.slices('bare', 'v4');
    const session = await w.session('bare', 'web', 10);
    const [a, b] = await w.leases(session, tcp(1), shared(4));
    if (!a || !b) throw new Error('no leases');
    w.clock.passSeconds(10);
    const swept = await w.execute({ kind: 'sweep', itemsMax: 100 });
    expect(swept).toMatchObject({ ok: true });
    await w.sweep();
    expect(await w.look(a)).toBe('198.51.100.0:6143/tcp cooling expired');
    expect(await w.look(b)).toBe('198.51.100.0:6136-6139/tcp shared late cooling expired');
    expect(w.events.slice(-2).map((event) => event.kind === 'lease' && event.lease.state)).toEqual([
      'cooling',
      'cooling',
    ]);
  });
});

describe('after a start of the server', () => {
  it('every session has a full TTL before it, and may be kept alive in that time', async () => {
    const long = await w.session('edge-1', 'web', 300);
    w.clock.passSeconds(1_000);
    const restarted = new World(w.store, w.clock);
    await ledger([
      ['nothing is over', () => restarted.sweep(), 2],
      ['29 s later', () => w.clock.passSeconds(29), undefined],
      ['kept alive', () => restarted.keep(web), 'until +30 s'],
      ['31 s later', () => w.clock.passSeconds(31), undefined],
      ['late', () => restarted.keep(web), 'session_ended'],
      ['the short one is swept', () => restarted.sweep(), 1],
      ['the long one has time', async () => (await w.store.reader.session(long.id))?.state, 'live'],
      ['until its own TTL', () => restarted.pass(240), undefined],
      ['has passed', async () => (await w.store.reader.session(long.id))?.ending, 'expired'],
    ]);
  });

  it('sessions that are overdue do not hide others from the sweep', async () => {
    const sessions = await Promise.all(Array.from({ length: 12 }, () => w.session('edge-1', 'web', 600)));
    w.clock.passSeconds(5_000);
    const restarted = new World(w.store, w.clock);
    const short = await restarted.session('edge-1', 'web', 1);
    w.clock.passSeconds(2);
    await restarted.sweep(5);
    expect((await w.store.reader.session(short.id))?.ending).toBe('expired');
    expect((await w.store.reader.session(sessions[0]?.id ?? 0))?.state).toBe('live');
  });

  it('log time goes on from where it was, also when the clock went back', async () => {
    const last = w.events.at(-1);
    w.clock.us -= 3_600 * second;
    const back = new LeaseService({ store: w.store, clock: w.clock });
    const events: number[] = [];
    back.onEvents((batch) => events.push(...batch.map(({ at }) => at)));
    await Promise.all(
      ['a', 'b'].map((id) => back.execute({ kind: 'createMachine', id, labels: {}, enforcement: 'none', fenceUs: 1 })),
    );
    expect(events).toEqual([(last?.at ?? 0) + 1, (last?.at ?? 0) + 2]);
  });
});
