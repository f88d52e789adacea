import type { Family } from '../../net/address.ts';
import type { RouteInfo, RuleInfo } from '../../sys/routing.ts';
import { flaggedFamily, familyFlag, type Origin } from '../host/host-state.ts';

/**
 * Rules and routes of the kernel in the words of host-state.ts, and back. The agent's own carry a protocol number (as those
 * of a routing daemon do), which tells them from everybody else's, also after a crash.
 */
export const routeProtocol = 70;
/** RTPROT_KERNEL: what the rules have that a host begins with. */
const kernelProtocol = 2;

export const originOf = ({ protocol }: Readonly<{ protocol: number }>): Origin =>
  protocol === routeProtocol ? 'ours' : 'foreign';

/** Tables may have any name on a host; these three are called so by everybody. */
const tableNames: Readonly<Record<number, string>> = { 255: 'local', 254: 'main', 253: 'default' };

const hex = (value: number): string => `0x${value.toString(16)}`;

export function ruleText({ family, priority, source, iif, mark, table, others }: RuleInfo): string {
  return [
    `${familyFlag(family)} priority ${priority}`,
    ...(source === undefined ? [] : [`from ${source}`]),
    ...(iif === undefined ? [] : [`iif ${iif}`]),
    ...(mark === undefined ? [] : [`fwmark ${hex(mark.value)}/${hex(mark.mask)}`]),
    ...(Object.keys(others).length === 0 ? [] : [JSON.stringify(others)]),
    ...(table === undefined ? [] : [`lookup ${tableNames[table] ?? table}`]),
  ].join(' ');
}

/** Of a rule that the agent makes, or takes away: by priority, source, mark and interface. Throws for any other text: a bug. */
export function ruleOf(text: string): Omit<RuleInfo, 'others'> {
  const match = /^-[46] priority (\d+)(?: from (\S+))?(?: iif (\S+))?(?: fwmark (\w+)\/(\w+))? lookup (\S+)$/.exec(
    text,
  );
  const [, priority, source, iif, value, mask, name = ''] = match ?? [];
  const named = Object.entries(tableNames).find(([, each]) => each === name);
  const table = Number(named?.[0] ?? name);
  if (!match || !Number.isInteger(table)) throw new Error(`no rule of the agent's: ${text}`);
  return {
    family: flaggedFamily(text),
    priority: Number(priority),
    table,
    // The rule that was there first is the kernel's own, and is given back as such.
    protocol: Number(priority) === 0 && name === 'local' ? kernelProtocol : routeProtocol,
    ...(source === undefined ? {} : { source }),
    ...(iif === undefined ? {} : { iif }),
    ...(value === undefined ? {} : { mark: { value: Number(value), mask: Number(mask) } }),
  };
}

/** RTN_* of linux/rtnetlink.h. */
const routeTypes: Readonly<Record<number, string>> = {
  1: 'unicast',
  2: 'local',
  6: 'blackhole',
  7: 'unreachable',
  8: 'prohibit',
};

/** `nameOf` tells a device's name by its index. */
export function routeText(route: RouteInfo, nameOf: (link: number) => string): string {
  const { family, table, type, destination, gateway, link, metric } = route;
  const kind = routeTypes[type] ?? String(type);
  const isPlain = kind === 'unicast';
  return [
    familyFlag(family),
    ...(isPlain ? [] : [kind]),
    destination,
    ...(gateway === undefined ? [] : [`via ${gateway}`]),
    // IPv6 has "lo" where nothing was said.
    ...(link === undefined || !isPlain ? [] : [`dev ${nameOf(link)}`]),
    // Where nothing is said, IPv4 has none.
    ...(metric === undefined ? [] : [`metric ${metric}`]),
    `table ${table}`,
  ].join(' ');
}

export type DefaultRoute = Readonly<{
  family: Family;
  to: 'device' | 'nowhere' | 'here';
  /** null unless it leads to one. */
  device: string | null;
  metric: number;
  table: number;
}>;

/** Of a route that the agent makes or takes away: a default route to a device, to nowhere, or to the host itself. */
export function routeOf(text: string): DefaultRoute {
  const match = /^-[46] (?:default dev (\S+)|(blackhole|local) default) metric (\d+) table (\d+)$/.exec(text);
  if (!match) throw new Error(`no route of the agent's: ${text}`);
  const [, device, kind, metric, table] = match;
  return {
    family: flaggedFamily(text),
    to: device !== undefined ? 'device' : kind === 'local' ? 'here' : 'nowhere',
    device: device ?? null,
    metric: Number(metric),
    table: Number(table),
  };
}
