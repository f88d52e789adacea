import type { RulesetInput } from '../../src/agent/host/ruleset.ts';
import { roles, senderIn, type SetClass } from '../../src/agent/host/sets.ts';
import type { Address } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { protocols } from '../../src/net/protocol.ts';

const classes = (wanted: readonly (typeof roles)[number][], sizes: readonly number[]): readonly SetClass[] =>
  wanted.flatMap((role) =>
    ([4, 6] as const).flatMap((family) =>
      protocols
        // Sets that no lease makes: echo has no closing sockets, and its `fish` set serves quoted packets as well.
        .filter((protocol) => protocol !== 'icmp' || (role !== 'own' && role !== 'quoted'))
        .flatMap((protocol) => sizes.map((size) => ({ role, protocol, family, size })))
        .flatMap((each) => (senderIn(role) === 'cgroup' ? [2, 4].map((level) => ({ ...each, level })) : [each])),
    ),
  );

const hostAddresses = ['203.0.113.1', '2001:db8:a::1'] as Address[];
const prefixes = ['203.0.113.0/24', '198.51.100.0/24', '2001:db8:a::/64'] as Prefix[];

/** Nothing but a mark. */
const plain: RulesetInput = {
  tun: null,
  mark: 0x2a,
  markMask: 0xff,
  arrivals: [],
  clients: [],
  terminate: null,
  prefixes: [],
  hostAddresses: [],
  keepSource: false,
  othersTranslate: false,
  classes: [],
};
const withProxies: RulesetInput = { ...plain, prefixes, classes: classes(['own_uid', 'closing', 'own'], [128]) };

/** Hosts of every kind, as the text of their table. */
export const everyRuleset: Readonly<Record<'bare' | 'proxies' | 'cgroups' | 'fish' | 'terminator', RulesetInput>> = {
  bare: plain,
  proxies: withProxies,
  cgroups: {
    ...withProxies,
    othersTranslate: true,
    classes: classes(['own_uid', 'closing', 'own_cgroup', 'closing_cgroup', 'in_cgroup', 'own'], [128]),
  },
  fish: {
    ...plain,
    tun: 'fishtun',
    arrivals: ['eth0', 'wg-clients'],
    clients: ['wg-clients'],
    prefixes,
    hostAddresses,
    keepSource: true,
    othersTranslate: true,
    // The smallest block, an ordinary one, and a whole address.
    classes: classes(
      roles.filter((role) => !role.includes('cgroup')),
      [1, 128, 65_536],
    ),
  },
  terminator: {
    ...withProxies,
    clients: ['wg-clients', 'tun7'],
    terminate: {
      port: 7_490,
      mark: 0x2b,
      paths: {
        rules: [
          { clients: [], destinations: ['203.0.113.0/24'] as Prefix[], ports: [], path: 'packet' },
          {
            clients: ['100.64.0.0/10', '2001:db8:c::/48'] as Prefix[],
            destinations: [],
            ports: [
              { first: 443, last: 443 },
              { first: 8_000, last: 8_099 },
            ],
            path: 'terminate',
          },
        ],
        otherwise: 'packet',
      },
    },
  },
};
