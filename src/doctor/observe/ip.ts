import { callTool, runTool } from '../../agent/linux/commands.ts';
import { HostRouting } from '../../agent/linux/host-routing.ts';
import type { Origin } from '../../agent/host/host-state.ts';
import { parseAddress, type Address } from '../../net/address.ts';
import type { Link } from '../facts.ts';

/** What the kernel, `ip` and `tc` tell about routing and devices, as facts. */
function withRouting<T>(read: (routing: HostRouting) => T): T {
  const routing = new HostRouting([4, 6]);
  try {
    return read(routing);
  } finally {
    routing.close();
  }
}

export const readRules = (): ReadonlyMap<string, Origin> => withRouting((routing) => routing.rules());
export const readRoutesOf = (table: number): ReadonlyMap<string, Origin> =>
  withRouting((routing) => routing.routes([table]));

type Entry = Readonly<Record<string, unknown>>;

/** Empty objects stand for what a filter left out. */
export function entriesOf(json: string): readonly Entry[] {
  const value: unknown = json.trim() === '' ? [] : JSON.parse(json);
  return Array.isArray(value)
    ? (value as readonly unknown[]).filter(
        (each): each is Entry => typeof each === 'object' && each !== null && Object.keys(each).length > 0,
      )
    : [];
}

/** Devices whose IPv6 default route came by a router advertisement. */
export async function readAdvertisedRoutes(): Promise<readonly string[]> {
  const routes = entriesOf(await callTool('ip', ['-json', '-6', 'route', 'show', 'default']));
  return routes.flatMap(({ protocol, dev }) => (protocol === 'ra' && typeof dev === 'string' ? [dev] : []));
}

export type IndexedLink = Link & Readonly<{ index: number }>;

export async function readLinks(): Promise<readonly IndexedLink[]> {
  const addresses = entriesOf(await callTool('ip', ['-json', 'address', 'show']));
  return linksFrom(entriesOf(await callTool('ip', ['-json', '-details', 'link', 'show'])), addresses);
}

/** Of `ip -json -details link show` and `ip -json address show`. */
export function linksFrom(links: readonly Entry[], addressed: readonly Entry[]): readonly IndexedLink[] {
  const addresses = new Map(
    addressed.map((entry) => [
      String(entry['ifname']),
      (Array.isArray(entry['addr_info']) ? (entry['addr_info'] as readonly Entry[]) : []).flatMap(
        ({ local }): readonly Address[] => {
          const parsed = parseAddress(typeof local === 'string' ? local : '');
          return parsed.ok ? [parsed.value] : [];
        },
      ),
    ]),
  );
  return links.map((link) => {
    const name = String(link['ifname']);
    const flags = Array.isArray(link['flags']) ? (link['flags'] as readonly unknown[]) : [];
    const info = link['linkinfo'] as Entry | undefined;
    return {
      name,
      index: Number(link['ifindex']),
      kind: typeof info?.['info_kind'] === 'string' ? info['info_kind'] : null,
      isUp: flags.includes('UP'),
      mtu: Number(link['mtu']),
      queue: Number(link['txqlen'] ?? 0),
      hasXdp: link['xdp'] !== undefined,
      addresses: addresses.get(name) ?? [],
    };
  });
}

/** Those of the devices that have filters at tc ingress. */
export async function readIngressFilters(devices: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(
    devices.map(async (device) => {
      const { code, stdout } = await runTool('tc', ['-json', 'filter', 'show', 'dev', device, 'ingress']);
      // No such device, or nothing at ingress: said by other checks, and no filter.
      return code === 0 && entriesOf(stdout).length > 0 ? [device] : [];
    }),
  );
  return found.flat();
}
