import { fc, test } from '@fast-check/vitest';
import { beforeEach, describe, expect, it } from 'vitest';
import { parseSelector } from '../../src/net/selector.ts';
import type { Claim, Explanation, Placement, Scope } from '../../src/leases/commands.ts';
import { address, at, must, shared, showLease, tcp, udp, World } from '../support/world.ts';

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
  w.execute({
    kind: 'explainGrant',
    scope,
    claims: [claim],
    reservation: { machine: 'edge-1', holder: 'web', unit: null },
  });
const explain = async (claim: Claim): Promise<Explanation> => must(await ask(claim));
const saidOf = ({ verdict }: Explanation) =>
  verdict.ok ? verdict.value.map(showLease).join(', ') : verdict.error.code;
const roomsOf = ({ claims }: Explanation) => claims[0]?.rooms ?? [];
const roomOf = (explanation: Explanation, pool: string) => roomsOf(explanation).find((room) => room.pool === pool);

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
      const said = saidOf(
        must(await w.execute({ kind: 'explainGrant', scope: {}, claims: [claim], session: session.id })),
      );
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
    expect(explanation.claims[0]?.nextRestAt).toBe((await w.store.reader.lease(a.id))?.reusableAt);
    expect(saidOf(explanation)).toMatch(/^198\.51\.100\.0:\S+ pending$/);
    await w.leases(mail, tcp(1_024, of));
    expect(saidOf(await explain(tcp(1_024, of)))).toBe('no_ports');
  });

  it('says of each pool why it is not in question', async () => {
    const whyNot = async (claim: Claim) =>
      roomsOf(await explain(claim)).map(({ pool, unsuitable }) => [pool, unsuitable]);
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

  it('looks only at the address that a claim names, and names it', async () => {
    const whyNot = (explanation: Explanation) => roomsOf(explanation).map(({ pool, unsuitable }) => [pool, unsuitable]);
    const of = async (claim: Claim) => {
      const explanation = await explain(claim);
      const { verdict } = explanation;
      const named = !verdict.ok && 'address' in verdict.error ? verdict.error.address : null;
      return [saidOf(explanation), named, ...whyNot(explanation).flat()];
    };
    const here = { address: address('198.51.100.0') };
    const there = { address: address('198.51.100.1') };
    await w.pool('v4b', ['203.0.113.0/32']);
    await w.ready('edge-1', 'v4b');
    await w.leases(await w.session('edge-1', 'mail'), tcp(2_048, here));
    const rooms = ['v4', null, 'v4b', 'other_address', 'v6', 'other_address'];
    expect(await of(tcp(8, here))).toEqual(['no_ports', '198.51.100.0', ...rooms]);
    expect(await of(tcp(8, at('198.51.100.0', 2_048)))).toEqual(['block_taken', '198.51.100.0', ...rooms]);
    const nowhere = ['v4', 'other_address', 'v4b', 'other_address', 'v6', 'other_address'];
    expect(await of(tcp(8, there))).toEqual(['no_slices', '198.51.100.1', ...nowhere]);
    expect((await of(tcp(8, { ...here, pool: 'v6' }))).slice(1)).toEqual([
      ...['198.51.100.0', 'v4', 'other_pool', 'v4b', 'other_pool', 'v6', 'other_address'],
    ]);
    expect((await of(tcp(8, { ...here, select: must(parseSelector('country=fr')) }))).slice(2)).toEqual([
      ...['v4', 'other_labels', 'v4b', 'other_address', 'v6', 'other_address'],
    ]);
  });

  it('tells of the slices on the address that a claim names whether they are granted from', async () => {
    await w.pool('wide', ['203.0.113.0/31'], { usablePorts: { first: 2_048, last: 4_095 } });
    const [[first], [second]] = [await w.ready('edge-1', 'wide'), await w.ready('edge-1', 'wide')];
    if (!first || !second) throw new Error('two were asked for');
    expect(first.address).not.toBe(second.address);
    const whyNot = async (claim: Claim) => roomOf(await explain(claim), 'wide')?.unsuitable;
    const here = { address: first.address };
    expect(await whyNot(tcp(1, here))).toBeNull();
    await w.leases(await w.session('edge-1', 'mail'), tcp(8, here));
    await w.drain(first.id);
    expect(await whyNot(tcp(1, here))).toBe('not_offered');
    expect(await whyNot(tcp(1, at(first.address, 2_048)))).toBe('not_offered');
    expect(await whyNot(tcp(1, { address: second.address }))).toBeNull();
    await w.allocate(second.id, 'machine');
    await w.reportSlice('edge-1', second, 'empty');
    await w.pass(120);
    await w.reportSlice('edge-1', { id: second.id, generation: 2 }, 'assigned');
    const own = await explain(tcp(1, { address: second.address }));
    expect([saidOf(own), roomOf(own, 'wide')?.unsuitable]).toEqual(['machine_allocates', 'machine_allocates']);
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
    const over = await w.execute({ kind: 'explainGrant', scope: {}, claims: [tcp(1)], session: session.id });
    expect(saidOf(must(over))).toBe('session_ended');
  });

  it('can be of somebody who has nothing there, and is only its own holder’s', async () => {
    const bystander = (machine: string, scope: Scope = {}) =>
      w.execute({ kind: 'explainGrant', scope, claims: [shared(64, { sticky: true })], bystander: machine });
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

describe('an explanation of several claims', () => {
  const askAll = async (claims: readonly Claim[], placement: Placement = 'any') =>
    must(await w.execute({ kind: 'explainGrant', scope: {}, claims, placement, reservation }));
  const reservation = { machine: 'edge-1', holder: 'web', unit: null };
  const codesOf = ({ claims }: Explanation) => claims.map(({ error }) => error?.code ?? null);

  it('names the first that fails, and what is in the way of each, after those that can be granted', async () => {
    const of = { pool: 'v4' };
    const explanation = await askAll([
      tcp(1_024, of),
      tcp(2_048, of),
      udp(2_048),
      tcp(1_024, of),
      tcp(8, of),
      udp(4_096),
    ]);
    expect(codesOf(explanation)).toEqual([null, 'no_ports', null, null, 'no_ports', 'ports_exceed_slice']);
    expect([explanation.failed, saidOf(explanation)]).toEqual([1, 'no_ports']);
    expect(explanation.claims.map(({ rooms }) => rooms.find(({ pool }) => pool === 'v4')?.unsuitable)).toEqual([
      ...[null, null, null, null, null, 'slice_too_small'],
    ]);
    const granted = await askAll([tcp(1_024, of), udp(8), tcp(1_024, of)]);
    expect([granted.failed, ...codesOf(granted)]).toEqual([null, null, null, null]);
  });

  it('blames no claim for what is wrong with all of them', async () => {
    const claims = [tcp(8, { pool: 'v4' }), tcp(8, { pool: 'v6' })];
    const apart = await askAll(claims, 'same_address');
    expect([saidOf(apart), apart.failed, ...codesOf(apart)]).toEqual(['no_common_address', null, null, null]);
    await w.execute({ kind: 'updateMachine', id: 'edge-1', state: 'cordoned' });
    const closed = await askAll(claims);
    const code = 'machine_not_active';
    expect([saidOf(closed), closed.failed, ...codesOf(closed)]).toEqual([code, null, code, code]);
  });

  it('counts what those before it take against the limits of the holder', async () => {
    const none = { tcp: 0, udp: 0, icmp: 0 };
    const limits = { portsMin: none, portsMax: { tcp: 100, udp: null, icmp: null }, sessionsMax: null };
    must(await w.execute({ kind: 'putHolder', machine: 'edge-1', name: 'web', holderKind: 'proxy', uid: 900, limits }));
    const explanation = await askAll([tcp(64), tcp(16, { count: 4 }), tcp(32), udp(512)]);
    expect(codesOf(explanation)).toEqual([null, 'holder_ports_exceeded', null, null]);
    expect(explanation.failed).toBe(1);
  });

  const claims = fc.array(
    fc.record({
      protocol: fc.constantFrom('tcp' as const, 'udp' as const),
      ports: fc.constantFrom(8, 128, 512, 1_024, 2_048),
      count: fc.integer({ min: 1, max: 3 }),
      pool: fc.constantFrom(null, 'v4', 'v6'),
    }),
    { minLength: 1, maxLength: 5 },
  );
  const placements = fc.constantFrom<Placement>('any', 'same_address', 'spread');
  test.prop([claims, placements], { numRuns: 60 })(
    'is what the grant comes to, up to its first failure',
    async (raw, placement) => {
      const all = raw.map(({ protocol, ports, ...rest }) => (protocol === 'tcp' ? tcp : udp)(ports, rest));
      const tried = async (some: readonly Claim[], how = placement) => {
        const grant = { kind: 'grantLeases', scope: {}, claims: some, placement: how, reservation } as const;
        const result = await w.execute(grant, { dryRun: true });
        return result.ok ? result.value.map(showLease).join(', ') : result.error.code;
      };
      const before = await w.store.reader.revision();
      const explanation = await askAll(all, placement);
      expect(await w.store.reader.revision()).toBe(before);
      expect(saidOf(explanation)).toBe(await tried(all));
      const { failed } = explanation;
      // Where leases must be on one address, the reason is what would fail on any.
      const how = placement === 'same_address' ? 'any' : placement;
      if (failed === null) {
        expect(codesOf(explanation)).toEqual(all.map(() => null));
        return;
      }
      expect(codesOf(explanation).slice(0, failed)).toEqual(all.slice(0, failed).map(() => null));
      expect(codesOf(explanation)[failed]).toBe(saidOf(explanation));
      expect(await tried(all.slice(0, failed + 1), how)).toBe(saidOf(explanation));
      if (failed > 0) expect(await tried(all.slice(0, failed), how)).toMatch(/ pending$/);
    },
  );
});
