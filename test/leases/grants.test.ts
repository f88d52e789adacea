import { beforeEach, describe, expect, it } from 'vitest';
import type { Session, Slice } from '../../src/leases/model.ts';
import { at, claim, ledger, second, shared, tcp, udp, World } from '../support/world.ts';

/** One slice, 198.51.100.0:2048-4095, on a machine with an agent and on it two proxies and a fish. */
let w: World;
let slice: Slice;
let web: Session;
let mail: Session;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31']);
  await w.machine('edge-1');
  await w.holder('edge-1', 'web');
  await w.holder('edge-1', 'mail');
  await w.holder('edge-1', 'fish', 'fish');
  [slice] = (await w.ready('edge-1', 'v4')) as [Slice];
  web = await w.session('edge-1', 'web');
  mail = await w.session('edge-1', 'mail');
});

describe('an exclusive grant', () => {
  it('rounds up to a power of two and cuts from the top, aligned', () =>
    ledger([
      ['100 ports', () => w.grant(web, tcp(100)), '198.51.100.0:3968-4095/tcp pending'],
      ['1 port', () => w.grant(web, tcp(1)), '198.51.100.0:3967/tcp pending'],
      ['2 ports', () => w.grant(web, tcp(2)), '198.51.100.0:3964-3965/tcp pending'],
      ['the gap is the tightest fit', () => w.grant(web, tcp(1)), '198.51.100.0:3966/tcp pending'],
      ['what is left', () => w.extents(slice), 'free 2048-3963'],
      ['udp has ports of its own', () => w.grant(web, udp(2_048)), '198.51.100.0:2048-4095/udp pending'],
      ['nothing said is one port', () => w.grant(web, claim('icmp', null)), '198.51.100.0:4095/icmp pending'],
    ]));

  it('is active at once where nobody enforces', async () => {
    await w.machine('bare', 'none');
    await w.holder('bare', 'web', 'proxy', null);
    await w.slices('bare', 'v4');
    const session = await w.session('bare', 'web');
    expect(await w.grant(session, tcp(8))).toBe('198.51.100.0:6136-6143/tcp active');
  });

  it('takes all claims of a request or none', async () => {
    const before = w.events.length;
    await ledger([
      [
        'two fit',
        () => w.grant(web, [tcp(1_024), tcp(512)]),
        '198.51.100.0:3072-4095/tcp pending, 198.51.100.0:2560-3071/tcp pending',
      ],
      ['the third does not', () => w.grant(web, [tcp(256), tcp(256), tcp(1)]), 'no_ports'],
      ['nothing of it stayed', () => w.extents(slice), 'free 2048-2559'],
      ['the log kept quiet', () => w.events.length - before, 2],
    ]);
  });

  it('prefers the extent that rested longest among equals', async () => {
    const keeper = await w.session('edge-1', 'web', 3_600);
    const [top, , middle] = await w.leases(keeper, tcp(512), tcp(512), tcp(512), tcp(512));
    if (!top || !middle) throw new Error('no leases');
    await ledger([
      ['the middle goes first', () => w.release(middle), '198.51.100.0:2560-3071/tcp ending released'],
      ['and is empty', () => w.report(middle, 'empty'), 'taken'],
      ['one second later', () => w.clock.passSeconds(1), undefined],
      ['the top', () => w.release(top), '198.51.100.0:3584-4095/tcp ending released'],
      ['and is empty', () => w.report(top, 'empty'), 'taken'],
      ['both come back', () => w.pass(121), undefined],
      ['free', () => w.extents(slice), 'free 2560-3071, free 3584-4095'],
      ['the longer rested', () => w.grant(keeper, tcp(512)), '198.51.100.0:2560-3071/tcp pending'],
      ['then the other', () => w.grant(keeper, tcp(512)), '198.51.100.0:3584-4095/tcp pending'],
    ]);
  });

  it('takes an extent for as long rested as its most recently used part', async () => {
    const keeper = await w.session('edge-1', 'web', 86_400);
    // From the top: four leases of 512. Two neighbours and one by itself come back, the neighbours at different times.
    const [old, , early, late] = await w.leases(keeper, tcp(512), tcp(512), tcp(512), tcp(512));
    for (const lease of [early, old, late]) {
      if (!lease) throw new Error('no lease');
      await w.release(lease);
      await w.report(lease, 'empty');
      w.clock.passSeconds(1);
    }
    await w.pass(120);
    await ledger([
      ['two pieces', () => w.extents(slice), 'free 2048-3071, free 3584-4095'],
      ['the tighter one', () => w.grant(keeper, tcp(256)), '198.51.100.0:3840-4095/tcp pending'],
      ['as large as half of the other', () => w.grant(keeper, tcp(512)), '198.51.100.0:2560-3071/tcp pending'],
      [
        'what is left of it is as fresh as it was',
        () => w.grant(keeper, tcp(256)),
        '198.51.100.0:3584-3839/tcp pending',
      ],
    ]);
    const { extents } = await w.store.reader.tiling(slice.id);
    const emptied = (await w.store.reader.lease(late?.id ?? 0))?.emptyAt;
    expect(extents.find(({ protocol }) => protocol === 'tcp')?.restedSince).toBe(emptied);
  });

  it('refuses what cannot be, with its reason', () =>
    ledger([
      ['more than a slice', () => w.grant(web, tcp(2_049)), 'ports_exceed_slice'],
      ['shared udp', () => w.grant(web, claim('udp', 8, { mode: 'shared' })), 'shared_needs_tcp'],
      ['shared icmp', () => w.grant(web, claim('icmp', 8, { mode: 'shared' })), 'shared_needs_tcp'],
      ['a binding alone', () => w.grant(web, tcp(8, { binding: 'late' })), 'binding_needs_shared'],
      ['an unknown pool', () => w.grant(web, tcp(8, { pool: 'v9' })), 'pool_not_found'],
      ['a family it has none of', () => w.grant(web, tcp(8, { family: 6 })), 'no_slices'],
      ['an unknown session', () => w.grant({ id: 999 }, tcp(8)), 'session_not_found'],
    ]));

  it('says when the next ports leave their cooldown', async () => {
    const [all] = await w.leases(web, tcp(2_048));
    if (!all) throw new Error('no lease');
    const grant = { kind: 'grantLeases', scope: {}, session: mail.id, claims: [tcp(1)] } as const;
    const full = await w.execute(grant);
    expect(full).toEqual({
      ok: false,
      error: { code: 'no_ports', machine: 'edge-1', address: null, protocol: 'tcp', ports: 1, nextAt: null },
    });
    await w.release(all);
    await w.report(all, 'empty');
    const resting = await w.execute(grant);
    expect(resting).toMatchObject({ ok: false, error: { code: 'no_ports', nextAt: w.clock.us + 120 * second } });
  });
});

describe('who may be granted', () => {
  it('is who the scope says', () =>
    ledger([
      [
        'the holder itself',
        () => w.grant(web, tcp(1), { machine: 'edge-1', holder: 'web' }),
        '198.51.100.0:4095/tcp pending',
      ],
      ['another holder', () => w.grant(web, tcp(1), { machine: 'edge-1', holder: 'mail' }), 'not_yours'],
      ['another machine', () => w.grant(web, tcp(1), { machine: 'edge-2' }), 'not_yours'],
      ['an agent for a proxy', () => w.grant(web, tcp(1), { machine: 'edge-1', runByAgent: true }), 'not_yours'],
      [
        'an agent for its fish',
        async () => w.grant(await w.session('edge-1', 'fish'), tcp(1), { machine: 'edge-1', runByAgent: true }),
        '198.51.100.0:4094/tcp pending',
      ],
    ]));

  it('is nobody new on a cordoned machine, while what lives there goes on', () =>
    ledger([
      ['before', () => w.grant(web, tcp(1)), '198.51.100.0:4095/tcp pending'],
      [
        'cordon',
        () => w.execute({ kind: 'updateMachine', id: 'edge-1', state: 'cordoned' }).then(({ ok }) => ok),
        true,
      ],
      ['no more', () => w.grant(web, tcp(1)), 'machine_not_active'],
      ['the session is kept', () => w.keep(web), 'until +30 s'],
      [
        'uncordon',
        () => w.execute({ kind: 'updateMachine', id: 'edge-1', state: 'active' }).then(({ ok }) => ok),
        true,
      ],
      ['again', () => w.grant(web, tcp(1)), '198.51.100.0:4094/tcp pending'],
    ]));

  it('is nobody whose session is over, also when the sweeper has not come by', async () => {
    w.clock.passSeconds(30);
    expect(await w.grant(web, tcp(1))).toBe('session_ended');
    expect((await w.store.reader.session(web.id))?.state).toBe('live');
  });

  it('is nobody in a slice that its machine has not confirmed', async () => {
    await w.machine('edge-2');
    await w.holder('edge-2', 'web');
    const [fresh] = await w.slices('edge-2', 'v4');
    const session = await w.session('edge-2', 'web');
    if (!fresh) throw new Error('no slice');
    await ledger([
      ['too early', () => w.grant(session, tcp(1)), 'no_slices'],
      ['by name as well', () => w.grant(session, tcp(1, at('198.51.100.0', 5_000))), 'block_not_owned'],
      ['confirmed', () => w.reportSlice('edge-2', fresh, 'assigned'), 'taken'],
      ['now', () => w.grant(session, tcp(1)), '198.51.100.0:6143/tcp pending'],
    ]);
  });
});

describe('a claim with at', () => {
  it('gets this very block or the reason why not', async () => {
    await ledger([
      ['free', () => w.grant(web, tcp(128, at('198.51.100.0', 2_176))), '198.51.100.0:2176-2303/tcp pending'],
      ['both sides are left', () => w.extents(slice), 'free 2048-2175, free 2304-4095'],
      ['taken', () => w.grant(web, tcp(64, at('198.51.100.0', 2_176))), 'block_taken'],
      ['around a taken one', () => w.grant(web, tcp(512, at('198.51.100.0', 2_048))), 'block_taken'],
      ['other protocol', () => w.grant(web, udp(64, at('198.51.100.0', 2_176))), '198.51.100.0:2176-2239/udp pending'],
      ['misaligned', () => w.grant(web, tcp(128, at('198.51.100.0', 2_304 + 64))), 'block_misaligned'],
      [
        'misaligned for its rounded size',
        () => w.grant(web, tcp(65, at('198.51.100.0', 2_304 + 64))),
        'block_misaligned',
      ],
      ['not its slice', () => w.grant(web, tcp(1, at('198.51.100.0', 5_000))), 'block_not_owned'],
      ['no pool has it', () => w.grant(web, tcp(1, at('192.0.2.1', 5_000))), 'block_not_owned'],
      ['larger than the slice', () => w.grant(web, tcp(4_096, at('198.51.100.0', 2_048))), 'ports_exceed_slice'],
      [
        'of the pool it is in',
        () => w.grant(web, tcp(1, { pool: 'v4', ...at('198.51.100.0', 2_048) })),
        '198.51.100.0:2048/tcp pending',
      ],
      [
        'of another pool',
        () => w.grant(web, tcp(1, { pool: 'v5', ...at('198.51.100.0', 2_049) })),
        'slice_outside_pool',
      ],
      ['of another family', () => w.grant(web, tcp(1, { family: 6, ...at('198.51.100.0', 2_049) })), 'block_not_owned'],
    ]);
  });

  it('says what is in the way', async () => {
    const [one] = await w.leases(web, tcp(64, at('198.51.100.0', 2_048)));
    if (!one) throw new Error('no lease');
    const claimIt = async () => {
      const result = await w.execute({
        kind: 'grantLeases',
        scope: {},
        session: mail.id,
        claims: [tcp(64, at('198.51.100.0', 2_048))],
      });
      return !result.ok && result.error.code === 'block_taken' ? result.error.state : result;
    };
    await ledger([
      ['leased', claimIt, 'exclusive'],
      ['refused', () => w.report(one, 'refused'), 'taken'],
      ['a stranger has it', claimIt, 'blocked'],
      [
        'unblock',
        () => w.execute({ kind: 'unblock', slice: slice.id, protocol: 'tcp', ports: one.ports }).then(({ ok }) => ok),
        true,
      ],
      ['it rests', claimIt, 'cooling'],
    ]);
  });

  it('twice in one request is refused as a whole', () =>
    ledger([
      [
        'twice',
        () => w.grant(web, [tcp(8, at('198.51.100.0', 2_048)), tcp(8, at('198.51.100.0', 2_048))]),
        'block_taken',
      ],
      ['nothing is left of it', () => w.extents(slice), 'free 2048-4095'],
      [
        'two beside each other, and one anywhere',
        () => w.grant(web, [tcp(8, at('198.51.100.0', 4_088)), tcp(8, at('198.51.100.0', 4_080)), tcp(8)]),
        '198.51.100.0:4088-4095/tcp pending, 198.51.100.0:4080-4087/tcp pending, 198.51.100.0:4072-4079/tcp pending',
      ],
    ]));
});

describe('a shared grant', () => {
  it('joins a block of the same binding in which the holder is not yet, the least crowded first', async () => {
    await w.holder('edge-1', 'feed');
    await w.holder('edge-1', 'news');
    const feed = await w.session('edge-1', 'feed');
    const news = await w.session('edge-1', 'news');
    await ledger([
      ['the first makes a block', () => w.grant(web, shared()), '198.51.100.0:3968-4095/tcp shared late pending'],
      ['another joins it', () => w.grant(mail, shared()), '198.51.100.0:3968-4095/tcp shared late pending'],
      ['its maker gets a second', () => w.grant(web, shared()), '198.51.100.0:3840-3967/tcp shared late pending'],
      ['the emptier one', () => w.grant(feed, shared()), '198.51.100.0:3840-3967/tcp shared late pending'],
      ['both have two: the lower', () => w.grant(news, shared()), '198.51.100.0:3840-3967/tcp shared late pending'],
      ['then the other', () => w.grant(news, shared()), '198.51.100.0:3968-4095/tcp shared late pending'],
      [
        'another binding',
        () => w.grant(news, shared(null, { binding: 'explicit' })),
        '198.51.100.0:3712-3839/tcp shared explicit pending',
      ],
      ['another size', () => w.grant(news, shared(64)), '198.51.100.0:3648-3711/tcp shared late pending'],
      ['no size: any block', () => w.grant(mail, shared()), '198.51.100.0:3648-3711/tcp shared late pending'],
      ['a size: only such', () => w.grant(feed, shared(128)), '198.51.100.0:3968-4095/tcp shared late pending'],
      ['an exclusive one beside', () => w.grant(feed, tcp(64)), '198.51.100.0:3584-3647/tcp pending'],
    ]);
  });

  it('joins by name, or says why not', () =>
    ledger([
      [
        'made by name',
        () => w.grant(web, shared(128, at('198.51.100.0', 2_048))),
        '198.51.100.0:2048-2175/tcp shared late pending',
      ],
      [
        'joined by name',
        () => w.grant(mail, shared(128, at('198.51.100.0', 2_048))),
        '198.51.100.0:2048-2175/tcp shared late pending',
      ],
      ['on it already', () => w.grant(web, shared(128, at('198.51.100.0', 2_048))), 'block_taken'],
      ['another size', () => w.grant(web, shared(64, at('198.51.100.0', 2_048))), 'block_taken'],
      [
        'another binding',
        () => w.grant(web, shared(128, { binding: 'explicit', ...at('198.51.100.0', 2_048) })),
        'block_taken',
      ],
      ['exclusive', () => w.grant(web, tcp(128, at('198.51.100.0', 2_048))), 'block_taken'],
    ]));

  it('of several claims makes several blocks', () =>
    ledger([
      [
        'three at once',
        () => w.grant(web, [shared(), shared(), shared()]),
        ['3968-4095', '3840-3967', '3712-3839']
          .map((ports) => `198.51.100.0:${ports}/tcp shared late pending`)
          .join(', '),
      ],
      [
        'joined in turn',
        () => w.grant(mail, [shared(), shared()]),
        ['3712-3839', '3840-3967'].map((ports) => `198.51.100.0:${ports}/tcp shared late pending`).join(', '),
      ],
    ]));

  it('leaves a block that the slice may no longer be granted from', async () => {
    await w.grant(web, shared());
    await w.ready('edge-1', 'v4');
    await w.drain(slice.id);
    expect(await w.grant(mail, shared())).toBe('198.51.100.0:6016-6143/tcp shared late pending');
  });
});

describe('several pools on one machine', () => {
  beforeEach(async () => {
    await w.pool('small', ['203.0.113.0/32'], { slicePorts: 64, sharedBlockPorts: 32 });
    await w.pool('six', ['2001:db8::/64'], { slicePorts: 1_024, sharedBlockPorts: 4_096 });
    await w.ready('edge-1', 'small');
    await w.ready('edge-1', 'six');
  });

  it('are chosen from by what fits tightest, by name and by family', () =>
    ledger([
      ['the small slice is the tightest', () => w.grant(web, tcp(8)), '203.0.113.0:1080-1087/tcp pending'],
      ['too large for it', () => w.grant(web, tcp(65)), '2001:db8:::1920-2047/tcp pending'],
      ['by name', () => w.grant(web, tcp(8, { pool: 'v4' })), '198.51.100.0:4088-4095/tcp pending'],
      ['by family', () => w.grant(web, tcp(8, { family: 6 })), '2001:db8:::1912-1919/tcp pending'],
      ['named and too large', () => w.grant(web, tcp(128, { pool: 'small' })), 'ports_exceed_slice'],
      [
        'shared, with the block size of the pool',
        () => w.grant(web, shared(null, { pool: 'small' })),
        '203.0.113.0:1024-1055/tcp shared late pending',
      ],
      ['no larger than its slice', () => w.grant(web, shared(null, { pool: 'six' })), 'no_ports'],
      ['pool and family contradict', () => w.grant(web, tcp(1, { pool: 'six', family: 4 })), 'no_slices'],
    ]));
});
