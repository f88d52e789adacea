import type { Family } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import { protocols, type Protocol } from '../../net/protocol.ts';
import type { SetClass } from '../host/sets.ts';
import { closingRules } from './closing.ts';
import { errorsFrom } from './quoted.ts';
import { anyUser, drop, errors, families, inPools, ip, isIn, l4, ofRole, sourceBlock, type Chains } from './words.ts';

export type GuardInput = Readonly<{
  /** Name of fish's TUN device; null on a host without fish. */
  tun: string | null;
  prefixes: readonly Prefix[];
  /** Others have source NAT here, so that connections are tracked, and a packet may have another source than its socket. */
  othersTranslate: boolean;
  classes: readonly SetClass[];
}>;

/**
 * Who may send from a pool's address: the chains of the egress guard. The order of the rules is the meaning; each comment
 * says what breaks otherwise. A packet meets the few rules of its own protocol only, the commonest kind first: what passes
 * is bulk, what is dropped may cost more.
 */
export function guardChains({ classes, tun, prefixes, othersTranslate }: GuardInput): Chains {
  const chains = families.flatMap((family): readonly Chains[] => [
    {
      [`guard${family}`]: guard(family),
      [`guard${family}_dead`]: dead(family, tun),
      [`guard${family}_passing`]: passing(family, tun),
      [`guard${family}_stranger`]: [ofHost(family), drop('guard_uid')],
      [`guard${family}_unowned`]: [ofHost(family), drop('guard_unowned')],
    },
    ...protocols.map((protocol) => ({
      [`guard${family}_${protocol}`]: ofProtocol(family, protocol, { classes, othersTranslate }),
    })),
    { [`guard${family}_cgroup`]: othersTranslate ? ofCgroups : [] },
    {
      [`guard${family}_fish`]: fish(family, classes),
      [`told${family}`]: errorsFrom(family, classes),
    },
  ]);
  return Object.assign(
    {
      guard: families.flatMap((family) =>
        inPools(family, 'saddr', prefixes).map((match) => `${match} goto guard${family}`),
      ),
    },
    ...chains,
  ) as Chains;
}

/** An ordinary address of this host inside a pool: not the guard's business. Few send from one, so it is asked for last. */
const ofHost = (family: Family): string => `${ip(family)} saddr @host${family} accept`;

const guard = (family: Family): readonly string[] => [
  `oif "lo" accept`,
  // The constant 0 is looked up in a set whose only element expires unless an answered keepalive renews it.
  `meta mark & 0x00000000 != @alive goto guard${family}_dead`,
  `iif != 0 goto guard${family}_passing`,
  ...protocols.map((protocol) => `${l4(protocol, family)} goto guard${family}_${protocol}`),
  `${anyUser} goto guard${family}_stranger`,
  `goto guard${family}_unowned`,
];

const dead = (family: Family, tun: string | null): readonly string[] => [
  // From fish, what is not leased is dropped whatever address it has.
  ...(tun === null ? [] : [`iifname "${tun}" ${drop('guard_dead')}`]),
  ofHost(family),
  drop('guard_dead'),
];

/** What no socket of this host has sent. */
const passing = (family: Family, tun: string | null): readonly string[] => [
  ...(tun === null ? [] : [`iifname "${tun}" goto guard${family}_fish`]),
  ofHost(family),
  drop('guard_forwarded'),
];

/** What a socket of this host, or the kernel itself, sends by one protocol. */
function ofProtocol(
  family: Family,
  protocol: Protocol,
  { classes, othersTranslate }: Pick<GuardInput, 'classes' | 'othersTranslate'>,
): readonly string[] {
  const those = (role: 'own_uid' | 'closing' | 'in_cgroup' | 'own') => ofRole(classes, family, [role], protocol);
  return [
    ...(protocol === 'icmp' && family === 6 ? [neighbours] : []),
    ...those('own_uid').map((each) => `${isIn(each, `${sourceBlock(each)} . meta skuid`)} accept`),
    ...those('closing').flatMap((each) => closingRules(each, 'meta skuid')),
    // A live socket on such a block has passed `sender`, which knows the cgroups; but for one that NAT has moved there since.
    ...those('in_cgroup').map(
      (each) =>
        `${anyUser} ${isIn(each, sourceBlock(each))} ${othersTranslate ? `goto guard${family}_cgroup` : 'accept'}`,
    ),
    // Any user id: a live socket that no rule above let through.
    `${anyUser} goto guard${family}_stranger`,
    ...(protocol === 'tcp' ? closed(family, those('own')) : []),
    `goto guard${family}_unowned`,
  ];
}

/**
 * No user id: sockets that are closing (their data and FIN must get out), TIME_WAIT, and the kernel's own resets. None of those
 * begins a connection; a SYN cookie does, and it may be for anybody's listener. A datagram of a socket that is closed, or was never
 * a process's, is nobody's either: UDP has nothing to wind up.
 */
const closed = (family: Family, blocks: readonly SetClass[]): readonly string[] =>
  blocks.length === 0
    ? []
    : [
        `tcp flags & syn != 0 goto guard${family}_unowned`,
        ...blocks.map((each) => `${isIn(each, sourceBlock(each))} accept`),
      ];

/**
 * A live socket on a block that a cgroup has. Whose source was changed behind `sender` was judged by nobody: by source NAT, or
 * because it answers a connection whose destination was changed on its way in. What is translated to itself (chain `keep`) the
 * kernel does not call translated. These rules turn connection tracking on, so they are there beside others' NAT only.
 */
const ofCgroups: readonly string[] = [
  `ct direction original ct status snat ${drop('guard_translated')}`,
  `ct direction reply ct status dnat ${drop('guard_translated')}`,
  'accept',
];

/**
 * A pool's address that stands on a link: its neighbours are asked, and answered, in its own name. Never while the guard is
 * shut: it would call the traffic of an address here that may have moved. RFC 4861: with hop limit 255, what has come
 * from further away is not heard. Everything else of neighbour and listener discovery has a link-local source.
 */
const neighbours =
  'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 fib saddr type local accept';

/** What may leave the TUN device. */
function fish(family: Family, classes: readonly SetClass[]): readonly string[] {
  return [
    // A fragment other than the first has no ports by which it could be judged. Fish sends none, and the kernel cuts what is
    // too large only after this.
    `${family === 4 ? 'ip frag-off & 0x1fff' : 'frag frag-off'} != 0 ${drop('guard_fish')}`,
    ...protocols.flatMap((protocol) =>
      ofRole(classes, family, ['fish'], protocol).map((each) => {
        const about = protocol === 'icmp' ? '' : `${l4(protocol, family)} `;
        return `${about}${isIn(each, sourceBlock(each))} accept`;
      }),
    ),
    // An ICMP error from a client, about a packet that came in to the block: the quoted destination is ours.
    `${errors[family]} jump told${family}`,
    drop('guard_fish'),
  ];
}
