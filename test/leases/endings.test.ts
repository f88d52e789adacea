import { beforeEach, describe, expect, it } from 'vitest';
import type { Lease, Session, Slice } from '../../src/leases/model.ts';
import { ledger, second, shared, tcp, udp, World } from '../support/world.ts';

let w: World;
let slice: Slice;
let web: Session;
let mail: Session;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/32']);
  await w.machine('edge-1');
  await w.machine('edge-2');
  await w.holder('edge-1', 'web');
  await w.holder('edge-1', 'mail');
  [slice] = (await w.ready('edge-1', 'v4')) as [Slice];
  web = await w.session('edge-1', 'web', 86_400);
  mail = await w.session('edge-1', 'mail', 86_400);
});

const one = async (session: Session, ...claims: Parameters<typeof w.leases>[1][]): Promise<Lease> => {
  const [lease] = await w.leases(session, ...claims);
  if (!lease) throw new Error('no lease');
  return lease;
};

const place = '198.51.100.0:4088-4095/tcp';

describe('a lease on a machine with an agent', () => {
  it('lives, ends, rests and is over, each step on the word of who knows', async () => {
    const lease = await one(web, tcp(8));
    await ledger([
      ['granted', () => w.look(lease), `${place} pending`],
      ['the agent made it true', () => w.report(lease, 'active'), 'taken'],
      ['so it is', () => w.look(lease), `${place} active`],
      ['the holder lets go', () => w.release(lease), `${place} ending released`],
      ['no sweep can end it', () => w.pass(1_000), undefined],
      ['it is still there', () => w.look(lease), `${place} ending released`],
      ['nor can anybody have it', () => w.extents(slice), 'free 2048-4087'],
      ['the agent proves it empty', () => w.report(lease, 'empty'), 'taken'],
      ['it rests', () => w.look(lease), `${place} cooling released`],
      ['one second short', () => w.pass(119), undefined],
      ['still', () => w.look(lease), `${place} cooling released`],
      ['rested', () => w.pass(1), undefined],
      ['over', () => w.look(lease), `${place} ended released`],
      ['and free', () => w.extents(slice), 'free 2048-4095'],
    ]);
  });

  it('tells the log each step but the end of its rest, which it told before', async () => {
    const lease = await one(web, tcp(8));
    w.events.length = 0;
    await w.report(lease, 'active');
    await w.release(lease);
    await w.report(lease, 'empty');
    await w.pass(120);
    const states = w.events.map((event) => (event.kind === 'lease' ? event.lease.state : event.kind));
    expect(states).toEqual(['active', 'ending', 'cooling']);
    expect(w.events.at(-1)).toMatchObject({ lease: { reusableAt: w.clock.us, endedAt: null } });
  });

  it('rests as long as the pool says for its protocol', async () => {
    const lease = await one(web, udp(8));
    await w.release(lease);
    await w.report(lease, 'empty');
    expect((await w.store.reader.lease(lease.id))?.reusableAt).toBe(w.clock.us + 60 * second);
  });

  it('is released once, by whoever has its token', async () => {
    const lease = await one(web, tcp(8));
    await ledger([
      ['an older grant', () => w.release(lease, '1.1.3'), 'stale_token'],
      ['an older generation', () => w.release(lease, `0.1.${lease.id}`), 'stale_token'],
      ['another epoch', () => w.release(lease, `1.2.${lease.id}`), 'stale_token'],
      ['another holder', () => w.release(lease, undefined, { machine: 'edge-1', holder: 'mail' }), 'not_yours'],
      ['an unknown one', () => w.release({ ...lease, id: 999 }), 'lease_not_found'],
      ['untouched', () => w.look(lease), `${place} pending`],
      [
        'its holder',
        () => w.release(lease, undefined, { machine: 'edge-1', holder: 'web' }),
        `${place} ending released`,
      ],
      ['again', () => w.release(lease), 'lease_over'],
    ]);
  });

  it('is revoked with a reason, gracefully: its ports wait for the proof all the same', async () => {
    const lease = await one(web, tcp(8));
    await ledger([
      ['revoke', () => w.revoke(lease.id, 'abuse'), `${place} ending revoked`],
      ['again', () => w.revoke(lease.id), 'lease_over'],
      ['release it now', () => w.release(lease), 'lease_over'],
      ['an unknown one', () => w.revoke(999), 'lease_not_found'],
    ]);
    expect(await w.store.reader.lease(lease.id)).toMatchObject({ reason: 'abuse' });
  });

  it('can be over before its agent came to it', async () => {
    const lease = await one(web, tcp(8));
    await ledger([
      ['released while pending', () => w.release(lease), `${place} ending released`],
      ['a late "active"', () => w.report(lease, 'active'), 'taken'],
      ['does not wake it up', () => w.look(lease), `${place} ending released`],
      ['a late "refused" proves nothing', () => w.report(lease, 'refused'), `lease-${lease.id} in_use`],
      ['nor does it the next time', () => w.report(lease, 'refused'), `lease-${lease.id} in_use`],
      ['so it waits', () => w.look(lease), `${place} ending released`],
      ['for the word that does', () => w.report(lease, 'empty'), 'taken'],
      ['and rests', () => w.look(lease), `${place} cooling released`],
    ]);
  });
});

describe('a lease where nobody enforces', () => {
  it('goes from its end straight to its rest', async () => {
    await w.machine('bare', 'none');
    await w.holder('bare', 'web', 'proxy', null);
    await w.slices('bare', 'v4');
    const lease = await one(await w.session('bare', 'web'), tcp(8));
    await ledger([
      ['release', () => w.release(lease), '198.51.100.0:6136-6143/tcp cooling released'],
      ['again', () => w.release(lease), 'lease_over'],
      ['rested', () => w.pass(120), undefined],
      ['over', () => w.look(lease), '198.51.100.0:6136-6143/tcp ended released'],
    ]);
  });
});

describe('a cooldown of nothing', () => {
  it('ends with the next sweep, not before', async () => {
    await w.pool('hot', ['203.0.113.0/32'], { cooldownUs: { tcp: 0, udp: 0, icmp: 0 } });
    const [hot] = await w.ready('edge-1', 'hot');
    if (!hot) throw new Error('no slice');
    const lease = await one(web, tcp(2_048, { pool: 'hot' }));
    await w.release(lease);
    await ledger([
      ['empty', () => w.report(lease, 'empty'), 'taken'],
      ['not yet', () => w.grant(mail, tcp(1, { pool: 'hot' })), 'no_ports'],
      ['the sweeper comes by', () => w.pass(0), undefined],
      ['now', () => w.grant(mail, tcp(1, { pool: 'hot' })), '203.0.113.0:4095/tcp pending'],
    ]);
  });
});

describe('a shared block', () => {
  it('rests when its last lease left; those before it have nothing to rest', async () => {
    const first = await one(web, shared(8));
    const second_ = await one(mail, shared(8));
    const block = `${place} shared late`;
    await ledger([
      ['one of two ends', () => w.release(first), `${block} ending released`],
      ['empty', () => w.report(first, 'empty'), 'taken'],
      ['over at once', () => w.look(first), `${block} ended released`],
      ['the other is not touched', () => w.look(second_), `${block} pending`],
      ['the holder may come back', () => w.grant(web, shared(8)), `${block} pending`],
      ['the other ends', () => w.release(second_), `${block} ending released`],
      ['empty', () => w.report(second_, 'empty'), 'taken'],
      ['over at once', () => w.look(second_), `${block} ended released`],
    ]);
    const last = (await w.store.reader.tiling(slice.id)).leases.at(0);
    if (!last) throw new Error('no lease');
    await ledger([
      ['the last ends', () => w.release(last), `${block} ending released`],
      ['while it ends, others still join', () => w.grant(mail, shared(8)), `${block} pending`],
      ['empty', () => w.report(last, 'empty'), 'taken'],
      ['over at once', () => w.look(last), `${block} ended released`],
    ]);
    const joined = (await w.store.reader.tiling(slice.id)).leases.at(0);
    if (!joined) throw new Error('no lease');
    await ledger([
      ['the very last', () => w.release(joined), `${block} ending released`],
      ['empty', () => w.report(joined, 'empty'), 'taken'],
      ['takes the block along', () => w.look(joined), `${block} cooling released`],
      ['nobody joins a resting block', () => w.grant(web, shared(8)), '198.51.100.0:4080-4087/tcp shared late pending'],
      ['rested', () => w.pass(120), undefined],
      ['free', () => w.extents(slice), 'free 2048-4079, free 4088-4095'],
    ]);
  });

  it('is not joined again by a holder that still has sockets there', async () => {
    const lease = await one(web, shared(8));
    await w.grant(mail, shared(8));
    await w.release(lease);
    expect(await w.grant(web, shared(8))).toBe('198.51.100.0:4080-4087/tcp shared late pending');
  });
});
