import { beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../src/leases/limits.ts';
import type { Lease, Revocation, Session } from '../../src/leases/model.ts';
import { parseSelector } from '../../src/net/selector.ts';
import { ledger, must, prefix, second, shared, tcp, udp, World } from '../support/world.ts';

let w: World;
let web: Session;
let mail: Session;
let bare: Session;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31'], { slicePorts: 8_192, labels: { country: 'de' } });
  await w.pool('six', ['2001:db8::/64'], { slicePorts: 8_192, labels: { country: 'fr' } });
  await w.machine('edge-1');
  await w.machine('bare', 'none');
  for (const name of ['web', 'mail']) await w.holder('edge-1', name);
  await w.holder('bare', 'web');
  await w.ready('edge-1', 'v4', 9);
  await w.ready('edge-1', 'six', 2);
  await w.ready('bare', 'v4', 1);
  web = await w.session('edge-1', 'web', 86_400);
  mail = await w.session('edge-1', 'mail', 86_400);
  bare = await w.session('bare', 'web', 86_400);
});

async function lease(session: Session, claim = tcp(8)): Promise<Lease> {
  const [granted] = await w.leases(session, claim);
  if (!granted) throw new Error('no lease');
  if (session.machine === 'edge-1') await w.report(granted, 'active');
  return granted;
}
const stateOf = async ({ id }: Lease): Promise<string> => {
  const found = await w.store.reader.lease(id);
  return `${found?.state}${found?.ending ? ` ${found.ending}` : ''}`;
};
const states = async (...leases: Lease[]) => (await Promise.all(leases.map(stateOf))).join(', ');
const revocation = async (): Promise<Revocation> => {
  const { items } = await w.store.reader.revocations({}, { limit: 100, cursor: null });
  const last = items.at(-1);
  if (!last) throw new Error('no revocation');
  return last;
};
const select = (text: string) => must(parseSelector(text));

describe('revoking one lease', () => {
  it('at its deadline lets it go on until then, and no other after', async () => {
    const one = await lease(web);
    const other = await lease(web);
    expect(await w.revoke(one.id, 'why', 60 * second)).toMatch(/active/);
    expect(await revocation()).toMatchObject({ state: 'waiting', lease: one.id, slice: one.slice, machine: 'edge-1' });
    await w.pass(59);
    expect(await states(one, other)).toBe('active, active');
    await w.pass(1);
    await w.sweep();
    expect(await states(one, other)).toBe('ending revoked, active');
    expect(await revocation()).toMatchObject({ state: 'done', leases: 1 });
    expect(await w.store.reader.lease(one.id)).toMatchObject({ reason: 'why' });
    expect(await w.revoke(one.id, 'again', 60 * second)).toBe('lease_over');
  });

  it('by force says so, also of one that is ending by itself already; once is enough', async () => {
    const [one, other, plain] = [await lease(web), await lease(web), await lease(web)];
    expect(await w.revoke(one.id, 'abuse', null, true)).toMatch(/ending/);
    expect(await w.store.reader.lease(one.id)).toMatchObject({ state: 'ending', forced: true, reason: 'abuse' });
    expect(await w.release(other)).toMatch(/ending/);
    expect(await w.store.reader.lease(other.id)).toMatchObject({ ending: 'released', forced: false });
    const before = w.events.length;
    expect(await w.revoke(other.id, '', null, true)).toMatch(/ending/);
    expect(w.events.slice(before)).toMatchObject([{ kind: 'lease', lease: { id: other.id, forced: true } }]);
    expect(await w.store.reader.lease(other.id)).toMatchObject({ state: 'ending', ending: 'released', forced: true });
    for (const { id } of [one, other]) expect(await w.revoke(id, '', null, true)).toBe('lease_over');
    expect(await w.revoke(plain.id)).toMatch(/ending/);
    expect(await w.store.reader.lease(plain.id)).toMatchObject({ forced: false });
  });

  it('by a revocation that names it is the same, and one lease alone', async () => {
    const one = await lease(web);
    const other = await lease(web);
    const foreign = await lease(mail);
    expect(await w.revokeAll({ lease: one.id, machine: 'bare' })).toBe('ending');
    expect(await w.revokeAll({ lease: one.id })).toBe('ending');
    expect(await states(one, other, foreign)).toBe('ending revoked, active, active');
    await w.sweep();
    await w.sweep();
    expect(await states(one, other, foreign)).toBe('ending revoked, active, active');
    expect(await revocation()).toMatchObject({ state: 'done', leases: 1 });
    expect(await w.revokeAll({ lease: one.id })).toBe('lease_over');
    expect(await w.revokeAll({ lease: 999_999 })).toBe('lease_not_found');
    expect(await w.revoke(999_999, '', second)).toBe('lease_not_found');
  });
});

describe('revoking many leases', () => {
  it('is one row and one event: from then on all of them read as ending', async () => {
    const mine = [await lease(web), await lease(web, udp(4)), await lease(web, shared())];
    const other = await lease(mail, shared());
    const before = w.events.length;
    expect(await w.revokeAll({ machine: 'edge-1', holder: 'web' })).toBe('ending');
    expect(w.events).toHaveLength(before + 1);
    expect(w.events.at(-1)).toMatchObject({ kind: 'revocation', machine: 'edge-1' });
    expect(await states(...mine)).toBe('ending revoked, ending revoked, ending revoked');
    expect(await states(other)).toBe('active');
    expect(mine[0] && (await w.release(mine[0]))).toBe('lease_over');
    const events = w.events.length;
    await w.sweep();
    expect(w.events).toHaveLength(events);
    expect(await revocation()).toMatchObject({ state: 'done', leases: 3, through: null });
    expect(await states(...mine)).toBe('ending revoked, ending revoked, ending revoked');
    expect(await w.store.reader.lease(mine[0]?.id ?? 0)).toMatchObject({ reason: 'why' });
  });

  it('by force is told by that event alone, and holds of those that are ending by themselves, before and after', async () => {
    const live = await lease(web);
    const ending = await lease(web);
    const other = await lease(mail);
    await w.release(ending);
    expect(await w.revokeAll({ machine: 'edge-1', holder: 'web', forced: true })).toBe('ending');
    const forced = async () => {
      const found = await Promise.all([live, ending, other].map(({ id }) => w.store.reader.lease(id)));
      return found.map((each) => `${each?.state} ${each?.ending} ${each?.forced}`);
    };
    const wanted = ['ending revoked true', 'ending released true', 'active null false'];
    expect(await forced()).toEqual(wanted);
    const events = w.events.length;
    expect(w.events.at(-1)).toMatchObject({ kind: 'revocation', revocation: { forced: true } });
    await w.sweep();
    expect(w.events).toHaveLength(events);
    expect(await revocation()).toMatchObject({ state: 'done', forced: true });
    expect(await forced()).toEqual(wanted);
  });

  it.each([
    ['a machine', { machine: 'edge-1' }, [0, 1, 2]],
    ['a holder, wherever it is', { holder: 'web' }, [0, 2, 3]],
    ['a holder of a machine', { machine: 'edge-1', holder: 'mail' }, [1]],
    ['a pool', { pool: 'six' }, [2]],
    ['pools by their labels', { select: select('country=de') }, [0, 1, 3]],
    ['a pool that has these labels', { select: select('country'), pool: 'v4' }, [0, 1, 3]],
    ['a pool that has not', { select: select('country=fr'), pool: 'v4' }, []],
    ['a prefix', { prefix: prefix('2001:db8::/126') }, [2]],
    ['a wider prefix', { prefix: prefix('198.51.0.0/16') }, [0, 1, 3]],
    ['a prefix and a holder', { prefix: prefix('198.51.0.0/16'), holder: 'mail' }, [1]],
  ] as const)('is by %s', async (_, scope, wanted) => {
    const leases = [
      await lease(web, tcp(8, { pool: 'v4' })),
      await lease(mail, tcp(8, { pool: 'v4' })),
      await lease(web, tcp(8, { pool: 'six' })),
      await lease(bare),
    ];
    expect(await w.revokeAll(scope)).toBe('ending');
    const ended = () => Promise.all(leases.map(async (one) => (await stateOf(one)).includes('revoked')));
    expect(await ended()).toEqual(leases.map((_one, index) => wanted.some((number) => number === index)));
    await w.pass(0);
    expect(await ended()).toEqual(leases.map((_one, index) => wanted.some((number) => number === index)));
    expect(await revocation()).toMatchObject({ state: 'done', leases: wanted.length });
  });

  it('is by session, and leaves the session as it is', async () => {
    const one = await lease(web);
    expect(await w.revokeAll({ session: web.id })).toBe('ending');
    await ledger([
      ['it ended', () => stateOf(one), 'ending revoked'],
      ['the session lives', () => w.keep(web), 'until +86400 s'],
      ['and gets others', () => w.grant(web, udp(1)), '198.51.100.0:16383/udp pending'],
    ]);
  });

  it('does not touch what is granted later, and cannot be undone by a report', async () => {
    const one = await lease(web);
    await w.revokeAll({ machine: 'edge-1', deadlineUs: 60 * second });
    const two = await lease(web);
    await ledger([
      ['as they were', () => states(one, two), 'active, active'],
      ['the time has come', () => w.pass(60), undefined],
      ['the one that there was', () => states(one, two), 'ending revoked, active'],
      ['a late word', () => w.report(one, 'active'), 'taken'],
      ['changes nothing', () => states(one, two), 'ending revoked, active'],
    ]);
  });

  it('tells beforehand when it will be', async () => {
    await w.revokeAll({ machine: 'edge-1', deadlineUs: 60 * second });
    expect(w.events.at(-1)).toMatchObject({
      kind: 'revocation',
      revocation: { state: 'waiting', revokeAt: w.clock.us + 60 * second, endedAt: null },
    });
  });

  it('follows in bounded steps, whatever ends meanwhile', async () => {
    const many: Lease[] = [];
    for (let i = 0; i < 40; i++) many.push(await lease(i % 4 === 3 ? mail : web, i % 5 === 4 ? shared() : tcp(2)));
    await w.revokeAll({ holder: 'web' });
    await w.end(web);
    await w.revokeAll({ machine: 'edge-1' });
    const moved: number[] = [];
    for (let round = 0; round < 200; round++) {
      const swept = must(await w.execute({ kind: 'sweep', itemsMax: 3 }));
      moved.push(swept.moved);
      if (!swept.more) break;
    }
    expect(moved.length).toBeGreaterThan(10);
    expect(Math.max(...moved)).toBeLessThan(50);
    expect(new Set(await Promise.all(many.map(stateOf)))).toEqual(new Set(['ending revoked']));
    const { items } = await w.store.reader.revocations({}, { limit: 9, cursor: null });
    expect(items.map(({ state }) => state)).toEqual(['done', 'done']);
  });

  it('waits for its turn when too many are under way', async () => {
    for (let i = 0; i < limits.revocations_in_effect_max; i++) await w.revokeAll({ holder: `h${i}` });
    const one = await lease(web);
    await ledger([
      ['one more', () => w.revokeAll({ holder: 'web' }), 'waiting'],
      ['not yet', () => stateOf(one), 'active'],
      ['the sweeper', () => w.pass(0), undefined],
      ['its turn has come', () => stateOf(one), 'ending revoked'],
      ['all are done', async () => (await revocation()).state, 'done'],
    ]);
  });

  it('ends leases at once where nobody proves anything', async () => {
    const one = await lease(bare);
    await w.revokeAll({ machine: 'bare' });
    await ledger([
      ['in effect', () => stateOf(one), 'ending revoked'],
      ['the sweeper', () => w.pass(0), undefined],
      ['it rests', () => stateOf(one), 'cooling revoked'],
      ['rested', () => w.pass(120), undefined],
      ['over', () => stateOf(one), 'ended revoked'],
    ]);
  });

  it('names what there is', async () => {
    await ledger([
      ['no machine', () => w.revokeAll({ machine: 'edge-9' }), 'machine_not_found'],
      ['no holder', () => w.revokeAll({ machine: 'edge-1', holder: 'ftp' }), 'holder_not_found'],
      ['no pool', () => w.revokeAll({ pool: 'v9' }), 'pool_not_found'],
      ['no session', () => w.revokeAll({ session: 999 }), 'session_not_found'],
      ['no label', () => w.revokeAll({ select: select('country=uk') }), 'nothing_selected'],
    ]);
  });
});
