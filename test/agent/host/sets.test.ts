import { fc, test } from '@fast-check/vitest';
import { describe, expect, it } from 'vitest';
import { decodeElement, encodeElement } from '../../../src/agent/linux/element-codec.ts';
import { ElementCounts, elementsOf, parseSetName, setName, type Block } from '../../../src/agent/host/sets.ts';
import { address } from '../../support/fake-host.ts';

const block = (over: Partial<Block> = {}): Block => ({
  address: address('198.51.100.10'),
  protocol: 'tcp',
  ports: { first: 9_088, last: 9_215 },
  mode: 'exclusive',
  ...over,
});
const texts = (...args: Parameters<typeof elementsOf>) => elementsOf(...args).map(({ set, key }) => `${set}: ${key}`);

describe('what a lease puts into the table', () => {
  it.each([
    ['tcp', ['closing_tcp4_128: 198.51.100.10 . 9088 . 2001', 'own_tcp4_128: 198.51.100.10 . 9088']],
    ['icmp', ['closing_icmp4_128: 198.51.100.10 . 9088 . 2001']],
  ] as const)('at its end, over %s: the user id where nothing new may begin', (protocol, expected) => {
    expect(texts(block({ protocol }), { kind: 'proxy', uid: 2_001 }, true)).toEqual(expected);
  });

  it.each([
    [
      'a proxy: its user id, and the block for sockets that have none any more',
      block(),
      { kind: 'proxy', uid: 2_001 },
      ['own_uid_tcp4_128: 198.51.100.10 . 9088 . 2001', 'own_tcp4_128: 198.51.100.10 . 9088'],
    ],
    [
      'a proxy that pings: its user id alone',
      block({ protocol: 'icmp', ports: { first: 16, last: 31 } }),
      { kind: 'proxy', uid: 2_001 },
      ['own_uid_icmp4_16: 198.51.100.10 . 16 . 2001'],
    ],
    [
      'fish, exclusively: out, errors out, and in',
      block({ protocol: 'udp' }),
      { kind: 'fish' },
      [
        'fish_udp4_128: 198.51.100.10 . 9088',
        'quoted_udp4_128: 198.51.100.10 . 9088',
        'steer_udp4_128: 198.51.100.10 . 9088',
      ],
    ],
    [
      'fish, shared: out only, for what comes in finds its placeholder',
      block({ mode: 'shared' }),
      { kind: 'fish' },
      ['fish_tcp4_128: 198.51.100.10 . 9088', 'quoted_tcp4_128: 198.51.100.10 . 9088'],
    ],
    [
      'fish that pings',
      block({ protocol: 'icmp', ports: { first: 0, last: 0 } }),
      { kind: 'fish' },
      ['fish_icmp4_1: 198.51.100.10 . 0', 'steer_icmp4_1: 198.51.100.10 . 0'],
    ],
    [
      'an IPv6 address: sets of its own',
      block({ address: address('2001:db8::10') }),
      { kind: 'proxy', uid: 0 },
      ['own_uid_tcp6_128: 2001:db8::10 . 9088 . 0', 'own_tcp6_128: 2001:db8::10 . 9088'],
    ],
    [
      'a proxy in a cgroup: its number at its level, and the block that is judged by cgroups',
      block(),
      { kind: 'proxy', cgroup: { path: 'a.slice/b.service', id: '4294967338' } },
      [
        'own_cgroup_at2_tcp4_128: 198.51.100.10 . 9088 . 4294967338',
        'in_cgroup_tcp4_128: 198.51.100.10 . 9088',
        'own_tcp4_128: 198.51.100.10 . 9088',
      ],
    ],
    [
      'a proxy in a cgroup that is not there: the block alone, which is shut then',
      block({ protocol: 'icmp', ports: { first: 16, last: 31 } }),
      { kind: 'proxy', cgroup: { path: 'a.slice', id: null } },
      ['in_cgroup_icmp4_16: 198.51.100.10 . 16'],
    ],
  ] as const)('%s', (_what, leased, owner, expected) => {
    expect(texts(leased, owner)).toEqual(expected);
  });

  it('is the same for two holders of one shared block, but for the user id', () => {
    const one = texts(block({ mode: 'shared' }), { kind: 'proxy', uid: 1 });
    const two = texts(block({ mode: 'shared' }), { kind: 'proxy', uid: 2 });
    expect(one.filter((text) => two.includes(text))).toEqual(['own_tcp4_128: 198.51.100.10 . 9088']);
  });
});

describe('names of sets', () => {
  it('say what is in them', () => {
    const steer = { role: 'steer', protocol: 'icmp', family: 6, size: 16 } as const;
    expect(setName(steer)).toBe('steer_icmp6_16');
    expect(parseSetName('steer_icmp6_16')).toEqual(steer);
    const byCgroup = { role: 'closing_cgroup', protocol: 'tcp', family: 4, size: 1, level: 12 } as const;
    expect(setName(byCgroup)).toBe('closing_cgroup_at12_tcp4_1');
    expect(parseSetName('closing_cgroup_at12_tcp4_1')).toEqual(byCgroup);
  });

  it.each([
    'own_cgroup_tcp4_1',
    'own_at1_tcp4_1',
    'own_cgroup_at0_tcp4_1',
    'alive',
    'pool4',
    'own_tcp5_128',
    'own_sctp4_128',
    'own_tcp4_',
    'own_tcp4_128x',
    'own_tcp4_0',
  ])('are not just any name: %s', (name) => expect(parseSetName(name)).toBeUndefined());
});

describe('elements as the kernel has them', () => {
  const hex = (set: string, key: string) => Buffer.from(encodeElement(set, key)).toString('hex');

  it('pad each field to four bytes, ports in network order, user ids in host order', () => {
    expect(hex('own_uid_tcp4_128', '198.51.100.10 . 9088 . 1000')).toBe('c633640a' + '23800000' + 'e8030000');
    expect(hex('own_tcp4_128', '198.51.100.10 . 9088')).toBe('c633640a' + '23800000');
    expect(hex('quoted_udp4_128', '198.51.100.10 . 9088')).toBe('c633640a' + '23800000');
    expect(hex('fish_tcp6_1', '2001:db8::10 . 1')).toBe('20010db8000000000000000000000010' + '00010000');
  });

  it('have the number of a cgroup in 64 bits of host order', () => {
    const key = '198.51.100.10 . 9088 . 18446744073709551615';
    expect(hex('own_cgroup_at1_tcp4_128', key)).toBe('c633640a' + '23800000' + 'ffffffffffffffff');
    expect(hex('closing_cgroup_at1_tcp4_128', '198.51.100.10 . 9088 . 258')).toBe(
      'c633640a' + '23800000' + '0201000000000000',
    );
    expect(decodeElement('own_cgroup_at1_tcp4_128', encodeElement('own_cgroup_at1_tcp4_128', key))).toBe(key);
  });

  it('have the port of a steering set in the last two of four bytes', () => {
    expect(hex('steer_tcp4_128', '198.51.100.10 . 9088')).toBe('c633640a' + '00002380');
  });

  const anyPort = fc.integer({ min: 0, max: 65_535 });
  test.prop([
    fc.constantFrom('own_uid_tcp4_8', 'own_udp4_1', 'fish_icmp4_2', 'quoted_tcp4_4', 'steer_udp4_64'),
    fc.ipV4(),
    anyPort,
    fc.integer({ min: 0, max: 0xffff_fffe }),
  ])('come back as they went in', (set, ip, port, uid) => {
    const key = [ip, port, ...(set.startsWith('own_uid') ? [uid] : [])].join(' . ');
    expect(decodeElement(set, encodeElement(set, key))).toBe(key);
  });

  it('come back over IPv6 as well', () => {
    const key = '2001:db8::10 . 65535 . 4294967294';
    expect(decodeElement('own_uid_tcp6_1', encodeElement('own_uid_tcp6_1', key))).toBe(key);
  });

  it.each([
    ['own_tcp4_1', 'nonsense . 1'],
    ['own_tcp4_1', '198.51.100.10'],
    ['alive', '0'],
  ])('are not made of what is none: %s { %s }', (set, key) => {
    expect(() => encodeElement(set, key)).toThrow();
  });
});

describe('counting', () => {
  const [element] = elementsOf(block(), { kind: 'proxy', uid: 1 });
  const one = element ? [element] : [];

  it('says which are new, and which nobody needs any more', () => {
    const counts = new ElementCounts();
    expect(counts.take(one)).toEqual(one);
    expect(counts.take(one)).toEqual([]);
    expect(counts.give(one)).toEqual([]);
    expect(counts.bySet()).toEqual(new Map([['own_uid_tcp4_128', new Set(['198.51.100.10 . 9088 . 1'])]]));
    expect(counts.give(one)).toEqual(one);
    expect(counts.bySet()).toEqual(new Map());
  });

  it('does not let more be given back than was taken', () => {
    expect(() => new ElementCounts().give(one)).toThrow('was not taken');
  });
});
