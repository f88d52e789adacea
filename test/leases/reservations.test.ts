import { beforeEach, describe, expect, it } from 'vitest';
import type { Claim, Reservation, Scope } from '../../src/leases/commands.ts';
import type { Lease } from '../../src/leases/model.ts';
import { ledger, must, shared, tcp, World } from '../support/world.ts';

/** One slice, 198.51.100.0:2048-4095, on a machine with an agent. */
let w: World;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31']);
  await w.machine('edge-1');
  for (const holder of ['web', 'mail']) await w.holder('edge-1', holder);
  await w.ready('edge-1', 'v4');
});

const web: Reservation = { machine: 'edge-1', holder: 'web', unit: null };
const squid: Reservation = { ...web, unit: 'squid.service' };
const reserve = (reservation: Reservation, claims: readonly Claim[], scope: Scope = {}) =>
  w.execute({ kind: 'grantLeases', scope, reservation, claims });
const reserved = async (reservation: Reservation, ...claims: Claim[]) => must(await reserve(reservation, claims));
const code = async (outcome: ReturnType<typeof reserve>) => {
  const result = await outcome;
  return result.ok ? 'granted' : result.error.code;
};

describe('a reservation', () => {
  it('lives without a session, however much time passes', async () => {
    const [lease] = (await reserved(web, tcp(8))) as [Lease];
    expect(lease).toMatchObject({ session: null, unit: null, holder: 'web', state: 'pending' });
    await w.report(lease, 'active');
    await w.pass(30 * 86_400);
    expect(await w.look(lease)).toBe('198.51.100.0:4088-4095/tcp active');
  });

  it('keeps its ports from others, and shares what is shared', async () => {
    const [lease] = (await reserved(web, tcp(8))) as [Lease];
    const mail = await w.session('edge-1', 'mail');
    await reserved(web, shared(64));
    await ledger([
      ['no other gets them', () => w.grant(mail, tcp(2_048)), 'no_ports'],
      ['beside', () => w.grant(mail, tcp(8)), '198.51.100.0:4080-4087/tcp pending'],
      ['joined', () => w.grant(mail, shared(64)), '198.51.100.0:3968-4031/tcp shared late pending'],
      ['not joined by its holder again', async () => (await reserved(web, shared(64)))[0]?.ports.first, 3_904],
      ['still there', () => w.look(lease), '198.51.100.0:4088-4095/tcp pending'],
    ]);
  });

  it('ends when somebody ends it: with its token, or by an operator', async () => {
    const [a, b] = (await reserved(web, tcp(8), tcp(8))) as [Lease, Lease];
    for (const lease of [a, b]) await w.report(lease, 'active');
    await ledger([
      ['a stale token', () => w.release(a, '1.1.1'), 'stale_token'],
      ['by the token', () => w.release(a), '198.51.100.0:4088-4095/tcp ending released'],
      ['revoked', () => w.revoke(b.id), '198.51.100.0:4080-4087/tcp ending revoked'],
      ['proven empty', () => w.report(a, 'empty'), 'taken'],
      ['it rests', () => w.look(a), '198.51.100.0:4088-4095/tcp cooling released'],
      ['rested', () => w.pass(121), undefined],
      ['over', () => w.look(a), '198.51.100.0:4088-4095/tcp ended released'],
    ]);
  });

  it('is for machines and holders that there are, on machines that take something new', () =>
    ledger([
      ['no machine', () => code(reserve({ ...web, machine: 'edge-9' }, [tcp(1)])), 'machine_not_found'],
      ['no holder', () => code(reserve({ ...web, holder: 'feed' }, [tcp(1)])), 'holder_not_found'],
      ['in scope', () => code(reserve(web, [tcp(1)], { machine: 'edge-1' })), 'granted'],
      ['out of scope', () => code(reserve(web, [tcp(1)], { machine: 'edge-2' })), 'not_yours'],
      ['all or none', () => code(reserve(web, [tcp(1_024), tcp(2_048)])), 'no_ports'],
      [
        'cordon',
        () => w.execute({ kind: 'updateMachine', id: 'edge-1', state: 'cordoned' }).then(({ ok }) => ok),
        true,
      ],
      ['not there', () => code(reserve(web, [tcp(1)])), 'machine_not_active'],
    ]));

  it('is listed apart from leases by a session', async () => {
    const [lease] = (await reserved(squid, tcp(8))) as [Lease];
    await w.leases(await w.session('edge-1', 'mail'), tcp(8));
    const { items } = await w.store.reader.leases({ session: null }, { limit: 10, cursor: null });
    expect(items).toEqual([lease]);
  });
});

describe('a reservation for a unit', () => {
  it('ends when the agent finds that the unit is gone, and says why', async () => {
    const [lease] = (await reserved(squid, tcp(8))) as [Lease];
    await w.report(lease, 'active');
    await ledger([
      ['another machine', () => w.report(lease, 'unit_gone', { machine: 'edge-9' }), 'machine_not_found'],
      ['a stale token', () => w.report(lease, 'unit_gone', { token: '0.1.9' }), `lease-${lease.id} stale_token`],
      ['gone', () => w.report(lease, 'unit_gone'), 'taken'],
      ['it ends', () => w.look(lease), '198.51.100.0:4088-4095/tcp ending released'],
      ['said twice', () => w.report(lease, 'unit_gone'), 'taken'],
      ['proven empty', () => w.report(lease, 'empty'), 'taken'],
      ['it rests', () => w.look(lease), '198.51.100.0:4088-4095/tcp cooling released'],
    ]);
    expect((await w.store.reader.lease(lease.id))?.reason).toBe('the unit squid.service is gone');
  });

  it('is what the report must be about', async () => {
    const [lease] = (await reserved(web, tcp(8))) as [Lease];
    expect(await w.report(lease, 'unit_gone')).toBe(`lease-${lease.id} no_unit`);
    expect(await w.look(lease)).toBe('198.51.100.0:4088-4095/tcp pending');
  });
});
