import { beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../src/leases/limits.ts';
import type { Session } from '../../src/leases/model.ts';
import { parseSelector } from '../../src/net/selector.ts';
import { address, at, ledger, must, shared, tcp, udp, World } from '../support/world.ts';

/** On a machine without an agent: slices of 64 ports, two on each of three addresses, and one of a pool elsewhere. */
let w: World;
let web: Session;
let mail: Session;
const [one, two, three] = ['198.51.100.1', '198.51.100.2', '198.51.100.3'] as const;

beforeEach(async () => {
  w = new World();
  const terms = { slicePorts: 64, usablePorts: { first: 1_024, last: 1_151 }, sharedBlockPorts: 16 };
  await w.pool('fra', ['198.51.100.0/29'], { ...terms, labels: { country: 'de' } });
  await w.pool('ams', ['203.0.113.0/32'], { ...terms, labels: { country: 'nl' } });
  await w.machine('edge-1', 'none');
  for (const holder of ['web', 'mail']) await w.holder('edge-1', holder);
  for (const where of [one, two, three])
    for (const firstPort of [1_024, 1_088])
      await w.slices('edge-1', 'fra', { at: { address: address(where), firstPort } });
  web = await w.session('edge-1', 'web', 3_600);
  mail = await w.session('edge-1', 'mail', 3_600);
});

/** The addresses of what is granted, or why nothing is. */
async function addresses(
  session: Session,
  placement: 'any' | 'same_address' | 'spread',
  ...claims: ReturnType<typeof tcp>[]
) {
  const result = await w.execute({ kind: 'grantLeases', scope: {}, session: session.id, claims, placement });
  return result.ok
    ? result.value.map((lease) => lease.address.replace('198.51.100.', '')).join(' ')
    : result.error.code;
}

describe('a claim with count', () => {
  it('is so many leases that are alike', () =>
    ledger([
      [
        'three and one',
        () => w.grant(web, [tcp(8, { count: 3 }), udp(16)]),
        [
          '198.51.100.1:1080-1087/tcp active, 198.51.100.1:1072-1079/tcp active, 198.51.100.1:1064-1071/tcp active',
          '198.51.100.1:1072-1087/udp active',
        ].join(', '),
      ],
      ['all or none', () => w.grant(web, tcp(64, { count: 6 })), 'no_ports'],
      ['as many as there are', () => addresses(web, 'any', tcp(64, { count: 5 })), '1 2 2 3 3'],
    ]));

  it('of shared leases makes a block for each', async () => {
    const blocks = await w.leases(web, shared(16, { count: 4 }));
    expect(new Set(blocks.map(({ ports }) => ports.first)).size).toBe(4);
    expect(await w.grant(mail, shared(16, { count: 4 }))).toMatch(/^198.51.100.1:1024-1039.*1072-1087/);
  });

  it('is bounded', async () => {
    const claims = [tcp(1, { count: limits.leases_per_grant_max }), tcp(1)];
    await expect(w.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims })).rejects.toThrow(/1025 leases/);
  });
});

describe('a claim with select', () => {
  const select = (text: string) => ({ select: must(parseSelector(text)) });

  it('is granted from pools whose labels match, and from no other', async () => {
    await w.slices('edge-1', 'ams');
    await ledger([
      ['one', () => w.grant(web, tcp(1, select('country=nl'))), '203.0.113.0:1087/tcp active'],
      ['the other', () => w.grant(web, tcp(1, select('country!=nl'))), '198.51.100.1:1087/tcp active'],
      ['either', () => w.grant(web, tcp(64, { ...select('country in (nl,de)'), count: 6 })), 'no_ports'],
      ['neither', () => w.grant(web, tcp(1, select('site'))), 'no_slices'],
      ['a pool that does not match', () => w.grant(web, tcp(1, { pool: 'fra', ...select('country=nl') })), 'no_slices'],
      ['by name too', () => w.grant(web, tcp(1, { ...at(two, 1_024), ...select('country=nl') })), 'no_slices'],
      [
        'by name',
        () => w.grant(web, tcp(1, { ...at(two, 1_024), ...select('country') })),
        '198.51.100.2:1024/tcp active',
      ],
      ['shared', () => w.grant(web, shared(16, select('country=nl'))), '203.0.113.0:1056-1071/tcp shared late active'],
      [
        'not joined',
        () => w.grant(mail, shared(16, select('country=de'))),
        '198.51.100.1:1056-1071/tcp shared late active',
      ],
      ['joined', () => w.grant(mail, shared(16, select('country=nl'))), '203.0.113.0:1056-1071/tcp shared late active'],
    ]);
  });
});

const nowhere = must(parseSelector('country=xx'));

describe('a claim for an address', () => {
  it('gets any block on it, and none elsewhere', () =>
    ledger([
      ['there', () => w.grant(web, tcp(32, { address: address(two) })), '198.51.100.2:1056-1087/tcp active'],
      ['both slices', () => w.grant(web, tcp(64, { address: address(two) })), '198.51.100.2:1088-1151/tcp active'],
      ['what is left', () => w.grant(web, tcp(64, { address: address(two) })), 'no_ports'],
      [
        'more than any of its slices has',
        () => w.grant(web, tcp(128, { address: address(two) })),
        'ports_exceed_slice',
      ],
      ['of labels that it lacks', () => w.grant(web, tcp(1, { address: address(two), select: nowhere })), 'no_slices'],
      ['not its own', () => w.grant(web, tcp(1, { address: address('198.51.100.7') })), 'no_slices'],
      [
        'shared',
        () => w.grant(web, shared(16, { address: address(three) })),
        '198.51.100.3:1072-1087/tcp shared late active',
      ],
      [
        'joined',
        () => w.grant(mail, shared(16, { address: address(three) })),
        '198.51.100.3:1072-1087/tcp shared late active',
      ],
      [
        'not twice',
        () => w.grant(mail, shared(16, { address: address(three) })),
        '198.51.100.3:1056-1071/tcp shared late active',
      ],
    ]));
});

describe('a sticky claim', () => {
  const sticky = { sticky: true };

  it('goes where the last one of its holder went, as long as there is room', () =>
    ledger([
      ['the first goes anywhere', () => addresses(web, 'any', tcp(8, { ...sticky, address: address(two) })), '2'],
      ['the next goes there', () => addresses(web, 'any', tcp(32, { ...sticky, count: 2 })), '2 2'],
      ['one that is not sticky does not', () => addresses(web, 'any', tcp(64)), '1'],
      ['another holder does not', () => addresses(mail, 'any', tcp(64, sticky)), '1'],
      ['without room it moves', () => addresses(web, 'any', tcp(64, sticky)), '3'],
      ['and stays there', () => addresses(web, 'any', tcp(8, sticky)), '3'],
    ]));

  it('remembers over sessions, and also what it got by name', () =>
    ledger([
      ['by name', () => addresses(web, 'any', tcp(1, { ...sticky, ...at(three, 1_030) })), '3'],
      ['its session ends', () => w.end(web), 'ended released'],
      [
        'a new one',
        async () => addresses(await w.session('edge-1', 'web'), 'any', tcp(1, sticky), udp(1, sticky)),
        '3 3',
      ],
    ]));

  it('keeps an address of each family, and says so to nobody', async () => {
    await w.pool('six', ['2001:db8::/64'], { slicePorts: 64, usablePorts: { first: 1_024, last: 1_151 } });
    await w.slices('edge-1', 'six', { count: 3 });
    await w.leases(
      web,
      tcp(1, { ...sticky, address: address('2001:db8::1') }),
      tcp(1, { ...sticky, address: address(two) }),
    );
    const before = w.events.length;
    await w.leases(web, tcp(1, sticky), tcp(1, { ...sticky, family: 6 }));
    const holder = await w.store.reader.holder('edge-1', 'web');
    expect(holder?.sticky).toEqual({ v4: two, v6: '2001:db8::1' });
    expect(w.events.slice(before).map(({ kind }) => kind)).toEqual(['lease', 'lease']);
    await w.holder('edge-1', 'web', 'proxy', 950);
    expect((await w.store.reader.holder('edge-1', 'web'))?.sticky.v4).toBe(two);
  });

  it('forgets what was only tried', async () => {
    const claims = [tcp(1, { ...sticky, address: address(two) })];
    await w.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims }, { dryRun: true });
    expect(await addresses(web, 'any', tcp(1, sticky))).toBe('1');
  });
});

describe('placement same_address', () => {
  it('puts all leases of the request on one address, or grants none', () =>
    ledger([
      ['fill most of the first', () => addresses(mail, 'any', tcp(64), tcp(32)), '1 1'],
      [
        'the tightest that has room for all',
        () => addresses(web, 'same_address', tcp(16, { count: 2 }), udp(1)),
        '1 1 1',
      ],
      ['the first is full', () => addresses(web, 'same_address', tcp(64), tcp(32)), '2 2'],
      ['what is left of the second', () => addresses(web, 'same_address', tcp(32), udp(64)), '2 2'],
      ['too much for one', () => addresses(web, 'same_address', udp(64, { count: 3 })), 'no_common_address'],
      ['but not for all', () => addresses(web, 'any', udp(64, { count: 3 })), '1 2 3'],
      ['too much for all', () => addresses(web, 'same_address', tcp(64, { count: 4 })), 'no_ports'],
    ]));

  it('goes where a claim names a block, and where a sticky one wants to be', () =>
    ledger([
      ['by address', () => addresses(web, 'same_address', tcp(1, { address: address(three) }), tcp(1)), '3 3'],
      [
        'by two addresses',
        () => addresses(web, 'same_address', tcp(1, { address: address(three) }), tcp(1, { address: address(two) })),
        'no_common_address',
      ],
      ['by name', () => addresses(web, 'same_address', tcp(8), tcp(8, at(three, 1_024))), '3 3'],
      [
        'two names',
        () => addresses(web, 'same_address', tcp(8, at(one, 1_024)), tcp(8, at(two, 1_024))),
        'no_common_address',
      ],
      ['make it sticky', () => addresses(web, 'any', tcp(1, { sticky: true, address: address(two) })), '2'],
      ['there', () => addresses(web, 'same_address', tcp(8), udp(8, { sticky: true })), '2 2'],
    ]));

  it('joins blocks on that address', async () => {
    await w.leases(web, shared(16, { address: address(three) }));
    expect(await addresses(mail, 'same_address', shared(16), tcp(8))).toBe('3 3');
    expect((await w.store.reader.leases({ holder: 'mail' }, { limit: 9, cursor: null })).items[0]?.mode).toBe('shared');
  });

  it('tries each request of a batch on its own', async () => {
    const asked = Array.from({ length: 4 }, () => addresses(web, 'same_address', tcp(64), tcp(32)));
    expect((await Promise.all(asked)).toSorted()).toEqual(['1 1', '2 2', '3 3', 'no_ports']);
  });
});

describe('placement spread', () => {
  it('uses the addresses as evenly as they have room', () =>
    ledger([
      ['one each', () => addresses(web, 'spread', tcp(8, { count: 3 })), '1 2 3'],
      ['over claims and protocols', () => addresses(web, 'spread', tcp(64), udp(8), tcp(8)), '1 2 3'],
      ['more than addresses', () => addresses(web, 'spread', udp(8, { count: 7 })), '2 1 3 1 2 3 1'],
    ]));

  it('goes on where there is room when an address has none', () =>
    ledger([
      ['fill two of three', () => addresses(mail, 'any', tcp(64, { count: 4 })), '1 1 2 2'],
      ['the third', () => addresses(web, 'spread', tcp(16, { count: 8 })), '3 3 3 3 3 3 3 3'],
      ['full', () => addresses(web, 'spread', tcp(1)), 'no_ports'],
    ]));

  it('counts what is named', () =>
    ledger([['by name first', () => addresses(web, 'spread', tcp(8, at(two, 1_024)), tcp(8), tcp(8)), '2 1 3']]));
});
