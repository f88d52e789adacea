import { beforeEach, describe, expect, it } from 'vitest';
import type { Lease, Session } from '../../src/leases/model.ts';
import { ledger, must, shared, tcp, World } from '../support/world.ts';

/** One slice, 198.51.100.0:2048-4095, on a machine with an agent; a machine without one. */
let w: World;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31']);
  for (const machine of ['edge-1', 'bare']) {
    await w.machine(machine, machine === 'bare' ? 'none' : 'agent');
    for (const holder of ['web', 'mail']) await w.holder(machine, holder);
    await w.ready(machine, 'v4');
  }
});

const gone = (name = 'web') => w.removeHolder('edge-1', name);
const granted = async (session: Session, ...claims: Parameters<World['leases']>[1][]): Promise<Lease> => {
  const [lease] = await w.leases(session, ...claims);
  if (!lease) throw new Error('one was asked for');
  return lease;
};
/** Why it is in use. */
async function use(name = 'web'): Promise<unknown> {
  const result = await w.execute({ kind: 'deleteHolder', machine: 'edge-1', name });
  return result.ok || result.error.code !== 'holder_in_use' ? result : [result.error.item, result.error.state];
}
const token = async (hash: string, machine: string, holder: string | null) =>
  must(await w.execute({ kind: 'createToken', name: 'x', role: holder ? 'holder' : 'agent', machine, holder, hash }));
const isRevoked = async ({ id }: { id: number }) =>
  ((await w.store.reader.accessTokenById(id))?.revokedAt ?? null) !== null;

describe('deleting a holder', () => {
  it('waits until its sessions and their leases are over; ports that rest do not hold it back', async () => {
    const session = await w.session('edge-1', 'web', 3_600);
    const lease = await granted(session, tcp(8));
    await w.report(lease, 'active');
    await ledger([
      ['a live session', () => use(), [`session-${session.id}`, 'live']],
      ['released', () => w.release(lease), '198.51.100.0:4088-4095/tcp ending released'],
      ['ended', () => w.end(session), 'ended released'],
      ['its leases have not followed', () => use(), [`session-${session.id}`, 'ending']],
      ['they follow', () => w.pass(1), undefined],
      ['not proven empty', () => use(), [`lease-${lease.id}`, 'ending']],
      ['proven empty', () => w.report(lease, 'empty'), 'taken'],
      ['it rests', () => w.look(lease), '198.51.100.0:4088-4095/tcp cooling released'],
      ['gone', () => gone(), 'web is gone'],
      ['twice', () => gone(), 'holder_not_found'],
      ['of no machine', () => w.removeHolder('edge-9', 'web'), 'machine_not_found'],
      [
        'no session for it',
        () => w.session('edge-1', 'web').catch(String),
        expect.stringContaining('holder_not_found'),
      ],
      ['rested', () => w.pass(121), undefined],
      ['over', () => w.look(lease), '198.51.100.0:4088-4095/tcp ended released'],
    ]);
    const { leases } = await w.store.reader.whoHad({
      ...{ address: lease.address, protocol: 'tcp', port: lease.ports.first, at: lease.grantedAt + 1 },
    });
    expect(leases.map(({ holder }) => holder)).toEqual(['web']);
  });

  it('waits for reservations, revoked ones too until they are proven empty', async () => {
    const reservation = { machine: 'edge-1', holder: 'web', unit: null };
    const [lease] = must(await w.execute({ kind: 'grantLeases', scope: {}, reservation, claims: [tcp(8)] })) as [Lease];
    await ledger([
      ['pending', () => use(), [`lease-${lease.id}`, 'pending']],
      ['made true', () => w.report(lease, 'active'), 'taken'],
      ['active', () => use(), [`lease-${lease.id}`, 'active']],
      ['revoked, with others', () => w.revokeAll({ machine: 'edge-1', holder: 'web' }), 'ending'],
      ['before its row has followed', () => use(), [`lease-${lease.id}`, 'ending']],
      ['it follows', () => w.pass(0), undefined],
      ['and is ending', () => use(), [`lease-${lease.id}`, 'ending']],
      ['empty', () => w.report(lease, 'empty'), 'taken'],
      ['gone', () => gone(), 'web is gone'],
    ]);
  });

  it('goes by its own machine and name', async () => {
    await w.session('edge-1', 'mail', 3_600);
    await granted(await w.session('bare', 'web', 3_600), shared(64));
    await ledger([
      ['others live', () => gone(), 'web is gone'],
      ['each by itself', () => gone('mail'), 'holder_in_use'],
      ['where nobody enforces', () => w.removeHolder('bare', 'web'), 'holder_in_use'],
    ]);
  });

  it('is decided by all that lives of it, also when the first of that ends at the same time', async () => {
    const [first, second] = [await w.session('edge-1', 'web', 3_600), await w.session('edge-1', 'web', 3_600)];
    expect(await Promise.all([w.end(first), gone()])).toEqual(['ended released', 'holder_in_use']);
    const machine = ['edge-3', 'web'] as const;
    await w.machine(machine[0]);
    await w.holder(...machine);
    const third = await w.session(...machine);
    await w.session(...machine);
    expect(await Promise.all([w.end(third), w.remove('edge-3')])).toEqual(['ended released', 'machine_in_use']);
    await w.end(second);
    const last = await w.session('edge-1', 'mail', 3_600);
    const [a, b] = [await granted(last, tcp(8)), await granted(last, tcp(8))];
    await w.end(last);
    await w.pass(1);
    expect(await Promise.all([w.report(a, 'empty'), gone('mail')])).toEqual(['taken', 'holder_in_use']);
    expect(await use('mail')).toEqual([`lease-${b.id}`, 'ending']);
  });

  it('revokes its tokens, and nobody else’s, and tells those who follow its machine', async () => {
    const its = [await token('h-1', 'edge-1', 'web'), await token('h-2', 'edge-1', 'web')];
    const others = [
      await token('h-3', 'edge-1', 'mail'),
      await token('h-4', 'bare', 'web'),
      await token('h-5', 'edge-1', null),
    ];
    const before = w.events.length;
    await gone();
    for (const one of its) expect(await isRevoked(one)).toBe(true);
    for (const one of others) expect(await isRevoked(one)).toBe(false);
    expect(w.events.slice(before).map(({ kind }) => kind)).toEqual(['token', 'token', 'deleted']);
    const deleted = { kind: 'deleted', what: 'holder', id: 'web', machine: 'edge-1' };
    expect(await w.store.reader.eventsAfter(before, 'edge-1', 9)).toMatchObject([deleted]);
    expect(await w.store.reader.eventsAfter(before, 'bare', 9)).toEqual([]);
    expect((await w.store.reader.desired('edge-1'))?.holders.map(({ name }) => name)).toEqual(['mail']);
  });

  it('takes its limits and its sticky addresses along, and begins anew under the same name', async () => {
    const limits = { portsMin: { tcp: 2_048, udp: 0, icmp: 0 }, portsMax: { tcp: null, udp: null, icmp: null } };
    const put = { kind: 'putHolder', machine: 'edge-1', name: 'web', holderKind: 'proxy' } as const;
    must(await w.execute({ ...put, limits: { ...limits, sessionsMax: 1 } }));
    const session = await w.session('edge-1', 'web', 3_600);
    const lease = await granted(session, { ...tcp(8), sticky: true });
    expect((await w.store.reader.holder('edge-1', 'web'))?.sticky.v4).toBe('198.51.100.0');
    const old = await token('h-1', 'edge-1', 'web');
    const mail = await w.session('edge-1', 'mail', 3_600);
    await ledger([
      ['kept for it', () => w.grant(mail, tcp(8)), 'ports_kept_for_others'],
      ['over', () => w.end(session), 'ended released'],
      ['followed', () => w.pass(1), undefined],
      ['empty', () => w.report(lease, 'empty'), 'taken'],
      ['gone', () => gone(), 'web is gone'],
      ['nothing is kept', () => w.grant(mail, tcp(8)), '198.51.100.0:4080-4087/tcp pending'],
      ['nobody is limited', async () => (await w.store.reader.machine('edge-1'))?.limitedHolders, 0],
      ['its user is free', () => w.holder('edge-1', 'news', 'proxy', 900), 'news 900'],
      ['another of the name', () => w.holder('edge-1', 'web', 'proxy', 905), 'web 905'],
      ['the token of old', () => isRevoked(old), true],
    ]);
    const found = await w.store.reader.holder('edge-1', 'web');
    expect(found).toMatchObject({ uid: 905, limits: null, sticky: { v4: null, v6: null }, revision: w.events.length });
    expect(found?.createdAt).toBe(found?.updatedAt);
  });

  it('is refused to whoever has seen an older revision, and only tried by a dry run', async () => {
    const { revision } = (await w.store.reader.holder('edge-1', 'web'))!;
    await w.holder('edge-1', 'web', 'proxy', 907);
    expect(await w.removeHolder('edge-1', 'web', revision)).toBe('precondition_failed');
    const before = w.events.length;
    const tried = await w.execute({ kind: 'deleteHolder', machine: 'edge-1', name: 'web' }, { dryRun: true });
    expect(tried.ok).toBe(true);
    expect(w.events.length).toBe(before);
    expect(await w.removeHolder('edge-1', 'web', before)).toBe('web is gone');
  });
});
