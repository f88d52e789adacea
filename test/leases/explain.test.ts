import { beforeEach, describe, expect, it } from 'vitest';
import { parseSelector } from '../../src/net/selector.ts';
import type { Claim, Explanation, Scope } from '../../src/leases/commands.ts';
import { must, shared, showLease, tcp, udp, World } from '../support/world.ts';

/** A slice of 2,048 ports and one of 1,024 on a machine with an agent, of two pools. */
let w: World;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31'], { labels: { country: 'de' } });
  await w.pool('v6', ['2001:db8::/64'], { slicePorts: 1_024, labels: { country: 'fr' } });
  await w.machine('edge-1');
  for (const holder of ['web', 'mail']) await w.holder('edge-1', holder);
  await w.ready('edge-1', 'v4');
  await w.ready('edge-1', 'v6');
});

const ask = (claim: Claim, scope: Scope = {}) =>
  w.execute({ kind: 'explainGrant', scope, claim, reservation: { machine: 'edge-1', holder: 'web', unit: null } });
const explain = async (claim: Claim): Promise<Explanation> => must(await ask(claim));
const saidOf = ({ verdict }: Explanation) =>
  verdict.ok ? verdict.value.map(showLease).join(', ') : verdict.error.code;
const roomOf = ({ rooms }: Explanation, pool: string) => rooms.find((room) => room.pool === pool);

describe('an explanation', () => {
  it('says what a grant would come to, and grants nothing', async () => {
    const session = await w.session('edge-1', 'web');
    const revision = await w.store.reader.revision();
    const claims = [
      tcp(8, { count: 2 }),
      tcp(2_048),
      shared(64),
      udp(4_096),
      tcp(64, { select: must(parseSelector('country=fr')) }),
    ];
    for (const claim of claims) {
      const said = saidOf(must(await w.execute({ kind: 'explainGrant', scope: {}, claim, session: session.id })));
      expect(await w.store.reader.revision()).toBe(revision);
      const tried = await w.execute(
        { kind: 'grantLeases', scope: {}, claims: [claim], session: session.id },
        { dryRun: true },
      );
      expect(said).toBe(tried.ok ? tried.value.map(showLease).join(', ') : tried.error.code);
    }
    expect((await w.store.reader.leases({}, { limit: 9, cursor: null })).items).toEqual([]);
  });

  it('counts ports by use for each pool and family, and names the largest block that is free', async () => {
    const [web, mail] = [await w.session('edge-1', 'web'), await w.session('edge-1', 'mail')];
    const of = { pool: 'v4' };
    const [a, b, c] = await w.leases(web, tcp(512, of), tcp(256, of), shared(64, of));
    await w.leases(mail, tcp(8, of), shared(64, of));
    if (!a || !b || !c) throw new Error('three were asked for');
    await w.report(b, 'refused');
    await w.report(a, 'active');
    await w.release(a);
    await w.report(a, 'empty');
    const explanation = await explain(tcp(1_024, of));
    expect(roomOf(explanation, 'v4')).toEqual({
      pool: 'v4',
      family: 4,
      unsuitable: null,
      ports: {
        ...{ free: 2_048 - 512 - 256 - 64 - 8, withheld: 0, machine_allocated: 0 },
        ...{ exclusive: 8, shared: 64, cooling: 512, blocked: 256 },
      },
      largest: 1_024,
    });
    expect(roomOf(explanation, 'v6')).toMatchObject({ family: 6, unsuitable: 'other_pool', largest: 1_024 });
    expect(explanation.nextRestAt).toBe((await w.store.reader.lease(a.id))?.reusableAt);
    expect(saidOf(explanation)).toMatch(/^198\.51\.100\.0:\S+ pending$/);
    await w.leases(mail, tcp(1_024, of));
    expect(saidOf(await explain(tcp(1_024, of)))).toBe('no_ports');
  });

  it('says of each pool why it is not in question', async () => {
    const whyNot = async (claim: Claim) =>
      (await explain(claim)).rooms.map(({ pool, unsuitable }) => [pool, unsuitable]);
    expect(await whyNot(tcp(2_048))).toEqual([
      ['v4', null],
      ['v6', 'slice_too_small'],
    ]);
    expect(await whyNot(tcp(1, { family: 6 }))).toEqual([
      ['v4', 'other_family'],
      ['v6', null],
    ]);
    expect(await whyNot(tcp(1, { select: must(parseSelector('country!=de')) }))).toEqual([
      ['v4', 'other_labels'],
      ['v6', null],
    ]);
    const [slice] = (await w.store.reader.slices({ pool: 'v4' }, { limit: 9, cursor: null })).items;
    await w.leases(await w.session('edge-1', 'mail'), tcp(8, { pool: 'v4' }));
    await w.drain(slice?.id ?? 0);
    expect(await whyNot(tcp(1))).toEqual([
      ['v4', 'not_offered'],
      ['v6', null],
    ]);
    expect(roomOf(await explain(tcp(1)), 'v4')?.ports).toMatchObject({ free: 0, withheld: 2_040, exclusive: 8 });
  });

  it('says where the machine grants itself, and what of that would serve', async () => {
    const [slice] = (await w.store.reader.slices({ pool: 'v4' }, { limit: 9, cursor: null })).items;
    await w.allocate(slice?.id ?? 0, 'machine');
    await w.reportSlice('edge-1', slice ?? { id: 0, generation: 1 }, 'empty');
    await w.pass(120);
    const back = { id: slice?.id ?? 0, generation: 2 };
    expect(roomOf(await explain(tcp(1)), 'v4')?.unsuitable).toBe('not_offered');
    await w.reportSlice('edge-1', back, 'assigned');
    const large = await explain(tcp(2_048));
    expect(saidOf(large)).toBe('machine_allocates');
    expect(roomOf(large, 'v4')).toMatchObject({ unsuitable: 'machine_allocates', largest: 0 });
    expect(roomOf(large, 'v4')?.ports).toMatchObject({ free: 0, withheld: 0, machine_allocated: 2_048 });
    expect(roomOf(large, 'v6')?.unsuitable).toBe('slice_too_small');
    const small = await explain(tcp(8));
    expect(saidOf(small)).toMatch(/^2001:db8::/);
    expect(roomOf(small, 'v4')?.unsuitable).toBe('machine_allocates');
  });

  it('says why the machine, or the session, is no place to be granted anything', async () => {
    await w.execute({ kind: 'updateMachine', id: 'edge-1', state: 'cordoned' });
    expect(saidOf(await explain(tcp(1)))).toBe('machine_not_active');
    const session = await w.session('edge-1', 'web');
    await w.end(session);
    const over = await w.execute({ kind: 'explainGrant', scope: {}, claim: tcp(1), session: session.id });
    expect(saidOf(must(over))).toBe('session_ended');
  });

  it('can be of somebody who has nothing there, and is only its own holder’s', async () => {
    const bystander = (machine: string, scope: Scope = {}) =>
      w.execute({ kind: 'explainGrant', scope, claim: shared(64, { sticky: true }), bystander: machine });
    const [lease] = await w.leases(await w.session('edge-1', 'web'), shared(64));
    const joined = must(await bystander('edge-1'));
    expect(joined.holder).toBeNull();
    expect(joined.verdict.ok && joined.verdict.value[0]?.ports).toEqual(lease?.ports);
    expect(await bystander('edge-9')).toMatchObject({ ok: false, error: { code: 'machine_not_found' } });
    expect(await bystander('edge-1', { machine: 'edge-1' })).toMatchObject({ error: { code: 'not_yours' } });
    expect(await ask(tcp(1), { machine: 'edge-1', holder: 'mail' })).toMatchObject({ error: { code: 'not_yours' } });
    expect(await ask(tcp(1), { machine: 'edge-1', holder: 'web' })).toMatchObject({ ok: true });
  });
});
