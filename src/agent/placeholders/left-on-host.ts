import type { Address } from '../../net/address.ts';
import {
  flaggedFamily,
  isLocalRule,
  kernelsLocalRule,
  type HostState,
  type Origin,
  type RecordPart,
} from '../host/host-state.ts';
import type { HostSettings } from '../host/desired-host.ts';

/**
 * A host that carries what an agent put there, while nothing says how it was before: the record was lost, with a container
 * or a disk, or is in another folder. What is certain is known by its marks: rules and routes by their protocol number, the
 * table by its name.
 */

const ours = (entries: ReadonlyMap<string, Origin>): readonly string[] =>
  [...entries].flatMap(([text, origin]) => (origin === 'ours' ? [text] : []));

/** What of an agent's is on the host, a few words for each kind; empty on a host without any. */
export function carries(observed: Pick<HostState, 'rules' | 'routes' | 'ruleset'>): readonly string[] {
  const [rules, routes] = [ours(observed.rules), ours(observed.routes)];
  return [
    ...(observed.ruleset.is === 'absent' ? [] : ['table inet fishery']),
    ...(rules.length === 0 ? [] : [`${rules.length} rules of protocol 70`]),
    ...(routes.length === 0 ? [] : [`${routes.length} routes of protocol 70`]),
  ];
}

/**
 * What the lost record said, as far as the host shows it; nothing on a host that carries nothing. How sysctls were it does
 * not show. `addresses` are those of this machine's slices: an agent that carries anything has put them there.
 */
export function leftOnHost(
  observed: HostState,
  settings: Pick<HostSettings, 'tun' | 'routeTable'>,
  addresses: readonly Address[],
): RecordPart {
  if (carries(observed).length === 0)
    return { sysctls: [], written: [], addresses: [], tun: null, tunBefore: null, rules: [] };
  // Of a slice that is gone from this machine, but not its last lease.
  const leased = [...observed.elements.values()].flatMap((keys) => [...keys].map((key) => key.split(' . ')[0]));
  const pools = new Set<string | undefined>([...addresses, ...leased]);
  const leading = ours(observed.routes).flatMap((route) => / default dev (\S+) /.exec(route)?.[1] ?? []);
  // A device that is down has lost its routes; the rule that led to them stands.
  const isLed = ours(observed.rules).some((rule) => rule.endsWith(` lookup ${settings.routeTable}`));
  const local = [...observed.rules].filter(([rule]) => isLocalRule(rule));
  const moved = local.filter(
    ([rule, origin]) =>
      origin === 'ours' &&
      !local.some(([other, by]) => by === 'foreign' && flaggedFamily(other) === flaggedFamily(rule)),
  );
  return {
    ...{ sysctls: [], written: [] },
    addresses: [...observed.addresses].filter((each) => pools.has(each)).sort(),
    tun: leading[0] ?? (isLed && observed.tun !== 'absent' ? settings.tun : null),
    tunBefore: null,
    rules: [...new Set(moved.map(([rule]) => kernelsLocalRule(flaggedFamily(rule))))].sort(),
  };
}
