import { parseAddress, type Family } from '../../net/address.ts';
import { HostProblem } from '../host.ts';
import { familyFlag, type HostState, type Origin } from '../host-state.ts';

/**
 * What `ip -json` says, in the words of host-state.ts. The agent's rules and routes carry a protocol number of their own
 * (as those of a routing daemon do), which tells them from everybody else's, also after a crash.
 */
export const routeProtocol = 70;

type Entry = Readonly<Record<string, unknown>>;

const originOf = (entry: Entry): Origin => (entry['protocol'] === String(routeProtocol) ? 'ours' : 'foreign');

/** Numbers everywhere (`-N`), because tables may have any name on a host; but these three are called so by everybody. */
const tableNames: Readonly<Record<string, string>> = { 255: 'local', 254: 'main', 253: 'default' };

/** Of `ip -N -json -details rule show`. */
export function parseRules(family: Family, json: string): ReadonlyMap<string, Origin> {
  return new Map(
    entriesOf(json).map((entry) => {
      const { priority, src, fwmark, fwmask, iif, table, protocol: _protocol, ...others } = entry;
      // Set when no interface of that name exists just now; the rule is the same.
      const { iif_detached: _detached, ...rest } = others;
      const words = [
        `${familyFlag(family)} priority ${show(priority)}`,
        ...(src === 'all' ? [] : [`from ${show(src)}`]),
        ...(iif === undefined ? [] : [`iif ${show(iif)}`]),
        ...(fwmark === undefined ? [] : [`fwmark ${show(fwmark)}/${show(fwmask ?? '0xffffffff')}`]),
        ...(Object.keys(rest).length === 0 ? [] : [JSON.stringify(rest)]),
        ...(table === undefined ? [] : [`lookup ${tableNames[show(table)] ?? show(table)}`]),
      ];
      return [words.join(' '), originOf(entry)];
    }),
  );
}

/** RTN_* of linux/rtnetlink.h. */
const routeTypes: Readonly<Record<string, string>> = { 1: 'unicast', 6: 'blackhole', 7: 'unreachable', 8: 'prohibit' };

/** Of `ip -N -json -details route show table N`. */
export function parseRoutes(family: Family, table: number, json: string): ReadonlyMap<string, Origin> {
  return new Map(
    entriesOf(json).map((entry) => {
      const { type, dst, dev, gateway, metric } = entry;
      const kind = routeTypes[show(type)] ?? show(type);
      const isPlain = kind === 'unicast';
      const words = [
        familyFlag(family),
        ...(isPlain ? [] : [kind]),
        show(dst),
        ...(gateway === undefined ? [] : [`via ${show(gateway)}`]),
        // IPv6 shows "lo" where nothing was said.
        ...(dev === undefined || !isPlain ? [] : [`dev ${show(dev)}`]),
        ...(metric === undefined ? [] : [`metric ${show(metric)}`]),
        `table ${table}`,
      ];
      return [words.join(' '), originOf(entry)];
    }),
  );
}

/** Of `ip -json address show`. */
export function parseAddresses(json: string): Pick<HostState, 'addresses' | 'linkAddresses'> {
  const [onLoopback = [], onLinks = []] = [true, false].map((wanted) =>
    entriesOf(json)
      .filter((link) => (link['ifname'] === 'lo') === wanted)
      .flatMap((link) => (Array.isArray(link['addr_info']) ? (link['addr_info'] as readonly Entry[]) : []))
      .flatMap((entry) => {
        const parsed = parseAddress(show(entry['local']));
        return parsed.ok ? [parsed.value] : [];
      }),
  );
  return { addresses: new Set(onLoopback), linkAddresses: new Set(onLinks) };
}

/** Of `ip -json link show dev NAME`: whether the device is administratively up. */
export function parseLinkIsUp(json: string): boolean {
  const flags = entriesOf(json)[0]?.['flags'];
  return Array.isArray(flags) && flags.includes('UP');
}

/** `ip` prints nothing at all where there is nothing, and empty objects for what a filter left out. */
function entriesOf(json: string): readonly Entry[] {
  if (json.trim() === '') return [];
  try {
    const value: unknown = JSON.parse(json);
    if (Array.isArray(value))
      return value.filter(
        (each: unknown): each is Entry => typeof each === 'object' && each !== null && Object.keys(each).length > 0,
      );
  } catch {
    // Told below, in the same words as any other answer that is no list.
  }
  throw new HostProblem(`ip -json answered something else: ${json.slice(0, 100)}`);
}

const show = (value: unknown): string =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : JSON.stringify(value ?? null);
