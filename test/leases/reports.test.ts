import { beforeEach, describe, expect, it } from 'vitest';
import type { Lease, Session } from '../../src/leases/model.ts';
import { ledger, shared, tcp, World } from '../support/world.ts';

let w: World;
let web: Session;
let lease: Lease;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/32']);
  await w.machine('edge-1');
  await w.machine('edge-2');
  await w.holder('edge-1', 'web');
  await w.holder('edge-1', 'mail');
  await w.ready('edge-1', 'v4');
  web = await w.session('edge-1', 'web', 3_600);
  [lease] = (await w.leases(web, tcp(8))) as [Lease];
});

describe('a report about a lease', () => {
  it('moves it when it is about this lease, from its machine, with its token', async () => {
    const name = `lease-${lease.id}`;
    await ledger([
      ['another machine', () => w.report(lease, 'active', { machine: 'edge-2' }), `${name} not_yours`],
      ['no machine', () => w.report(lease, 'active', { machine: 'edge-9' }), 'machine_not_found'],
      ['a stale token', () => w.report(lease, 'active', { token: '0.1.9' }), `${name} stale_token`],
      ['an unknown lease', () => w.report({ ...lease, id: 999 }, 'active'), 'lease-999 lease_not_found'],
      ['untouched', () => w.look(lease), '198.51.100.0:4088-4095/tcp pending'],
      ['not empty before it ends', () => w.report(lease, 'empty'), `${name} in_use`],
      ['right', () => w.report(lease, 'active'), 'taken'],
      ['twice', () => w.report(lease, 'active'), 'taken'],
      ['active', () => w.look(lease), '198.51.100.0:4088-4095/tcp active'],
      ['not refused any more', () => w.report(lease, 'refused'), `${name} already_active`],
      ['not empty before it ends', () => w.report(lease, 'empty'), `${name} in_use`],
    ]);
    expect(w.events.filter((event) => event.kind === 'lease')).toHaveLength(2);
  });

  it('said twice moves nothing the second time', async () => {
    await w.release(lease);
    const events = () => w.events.length;
    await w.report(lease, 'empty');
    const before = events();
    await ledger([
      ['empty again', () => w.report(lease, 'empty'), 'taken'],
      ['a late active', () => w.report(lease, 'active'), 'taken'],
      ['a late refusal', () => w.report(lease, 'refused'), 'taken'],
      ['still resting', () => w.look(lease), '198.51.100.0:4088-4095/tcp cooling released'],
    ]);
    expect(events()).toBe(before);
  });

  it('stands alone: one that is rejected does not hold up the others', async () => {
    const [other] = await w.leases(web, tcp(1));
    if (!other) throw new Error('no lease');
    const token = (id: number) => `1.1.${id}`;
    const result = await w.execute({
      kind: 'report',
      machine: 'edge-1',
      revision: 0,
      leases: [
        { lease: lease.id, token: '9.9.9', state: 'active' },
        { lease: other.id, token: token(other.id), state: 'active' },
        { lease: 999, token: token(999), state: 'active' },
      ],
      slices: [],
    });
    expect(result).toMatchObject({
      ok: true,
      value: { rejected: [{ code: 'stale_token' }, { code: 'lease_not_found' }] },
    });
    expect(await w.look(other)).toMatch(/ active$/);
    expect(await w.look(lease)).toMatch(/ pending$/);
  });

  it('says how far the agent is', async () => {
    await w.alive('edge-1');
    await w.execute({ kind: 'report', machine: 'edge-1', revision: 7, leases: [], slices: [] });
    await w.execute({ kind: 'report', machine: 'edge-1', revision: 5, leases: [], slices: [] });
    expect((await w.store.reader.machine('edge-1'))?.agent?.appliedRevision).toBe(7);
  });
});

describe('a refusal', () => {
  it('of a shared lease leaves those who are in the block, and keeps others out of it', async () => {
    const mail = await w.session('edge-1', 'mail', 3_600);
    const [a] = await w.leases(web, shared(8));
    const [b] = await w.leases(mail, shared(8));
    if (!a || !b) throw new Error('no leases');
    const slice = { id: a.slice };
    await ledger([
      ['one is refused', () => w.report(b, 'refused'), 'taken'],
      ['the block stands', () => w.extents(slice), 'free 2048-4079'],
      ['the other is not touched', () => w.look(a), '198.51.100.0:4080-4087/tcp shared late pending'],
      [
        'the refused one gets another',
        () => w.grant(mail, shared(8)),
        '198.51.100.0:4072-4079/tcp shared late pending',
      ],
    ]);
  });

  it('of the last of a shared block blocks it', async () => {
    const [a] = await w.leases(web, shared(8));
    if (!a) throw new Error('no lease');
    await ledger([
      ['refused', () => w.report(a, 'refused'), 'taken'],
      ['blocked', () => w.extents({ id: a.slice }), 'free 2048-4079, blocked 4080-4087'],
      ['nobody joins it', () => w.grant(web, shared(8)), '198.51.100.0:4072-4079/tcp shared late pending'],
    ]);
  });
});
