import type { Family } from '../../net/address.ts';
import { protocols, type Protocol } from '../../net/protocol.ts';
import type { SetClass } from '../host/sets.ts';
import { closingRules } from './closing.ts';
import type { GuardInput } from './guard.ts';
import { anyUser, drop, families, inPools, isIn, l4, ofRole, sourceBlock, type Chains } from './words.ts';

/** Whether anybody is known by a cgroup; without, there is nothing to judge on output, and no hook there. */
export const judgesCgroups = (classes: readonly SetClass[]): boolean =>
  classes.some(({ role }) => role === 'in_cgroup');

/**
 * Whose sockets may use the blocks that cgroups have leased: those in the cgroup, at the level where it is, and those of
 * users who have a lease of the same block. Packets without a live socket (its FIN, a reset of the kernel's own) go on to
 * the guard, which lets them pass where a proxy leases the port.
 */
export const senderChains = ({ classes, prefixes }: Pick<GuardInput, 'classes' | 'prefixes'>): Chains =>
  Object.assign(
    {
      sender: families
        .filter((family) => ofRole(classes, family, ['in_cgroup']).length > 0)
        .flatMap((family) => inPools(family, 'saddr', prefixes).map((match) => `${match} goto sender${family}`)),
    },
    ...families.map((family) => ({ [`sender${family}`]: sender(family, classes) })),
    ...families.flatMap((family) =>
      protocols.map((protocol) => ({ [`sender${family}_${protocol}`]: ofProtocol(family, protocol, classes) })),
    ),
  ) as Chains;

const sender = (family: Family, classes: readonly SetClass[]): readonly string[] => {
  const judged = protocols.filter((protocol) => ofRole(classes, family, ['in_cgroup'], protocol).length > 0);
  if (judged.length === 0) return [];
  return [`oif "lo" accept`, ...judged.map((protocol) => `${l4(protocol, family)} goto sender${family}_${protocol}`)];
};

function ofProtocol(family: Family, protocol: Protocol, classes: readonly SetClass[]): readonly string[] {
  const those = (role: 'own_uid' | 'closing' | 'own_cgroup' | 'closing_cgroup' | 'in_cgroup') =>
    ofRole(classes, family, [role], protocol);
  if (those('in_cgroup').length === 0) return [];
  const byCgroup = (each: SetClass) => `socket cgroupv2 level ${each.level}`;
  return [
    // Judged by the guard, which knows them.
    ...[...those('own_uid'), ...those('closing')].map(
      (each) => `${isIn(each, `${sourceBlock(each)} . meta skuid`)} accept`,
    ),
    ...those('own_cgroup').map((each) => `${isIn(each, `${sourceBlock(each)} . ${byCgroup(each)}`)} accept`),
    ...those('closing_cgroup').flatMap((each) => closingRules(each, byCgroup(each))),
    ...those('in_cgroup').map((each) => `${anyUser} ${isIn(each, sourceBlock(each))} ${drop('guard_cgroup')}`),
  ];
}
