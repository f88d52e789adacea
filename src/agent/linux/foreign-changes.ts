import { NETLINK_NETFILTER, NETLINK_ROUTE } from '../../sys/netlink.ts';
import { listenerFilter, netfilterGroups, NetlinkListener, routeGroups } from '../../sys/netlink-listener.ts';
import { changedTable, changesChains, type NftChange } from '../../sys/nft-table-message.ts';
import { readAddress, readLink, readRoute, rtm } from '../../sys/route-message.ts';
import { loopbackLink } from '../../sys/routing.ts';
import { tableName } from '../host/ruleset.ts';
import { traceTableName } from '../trace/kernel-table.ts';

/** The parts of a host that are read for themselves. */
export const areas = ['rules', 'routes', 'addresses', 'links', 'table', 'elements', 'nat'] as const;
export type Area = (typeof areas)[number];

/** What somebody else changed, for people, and where to look. */
export type ForeignChange = Readonly<{ what: string; areas: readonly Area[] }>;

export type OwnSockets = Readonly<{
  /** What these change is not told, because whoever asks did it. */
  routing: readonly number[];
  netfilter: readonly number[];
  routeTables: readonly number[];
  tun: string;
  /** The other links of this host that packets of fish pass. */
  neighbours: readonly string[];
}>;

/** Hears of everything that others change of what the agent looks after. The kernel tells; nobody else has to run. */
export class ForeignChanges {
  readonly #own: OwnSockets;
  readonly #routing: NetlinkListener;
  readonly #netfilter: NetlinkListener;

  constructor(own: OwnSockets) {
    this.#own = own;
    const toOurs = listenerFilter(own.routing, own.routeTables);
    this.#routing = new NetlinkListener(NETLINK_ROUTE, Object.values(routeGroups), toOurs);
    const toNft = listenerFilter(own.netfilter);
    this.#netfilter = new NetlinkListener(NETLINK_NETFILTER, [netfilterGroups.nftables], toNft);
  }

  /** What was changed since it was asked last, each thing once. */
  take(): readonly ForeignChange[] {
    const found = new Map<string, readonly Area[]>();
    const isFlooded = [
      this.#routing.drain((message, buffer) => {
        const change = this.#routeChange(message, buffer);
        if (change) found.set(change.what, change.areas);
      }),
      this.#netfilter.drain((message, buffer) => {
        const change = changedTable(buffer, message);
        if (change?.table === tableName) found.set(`nft ${change.what}`, areasOf(change.what));
        else if (change?.table !== traceTableName && changesChains(message)) found.set('nft chains of others', ['nat']);
      }),
    ].includes(true);
    if (isFlooded) found.set('more than could be heard', areas);
    return [...found].map(([what, where]) => ({ what, areas: where }));
  }

  close(): void {
    this.#routing.close();
    this.#netfilter.close();
  }

  #routeChange(...[message, buffer]: Parameters<Parameters<NetlinkListener['drain']>[0]>): ForeignChange | undefined {
    const { type } = message;
    if (type === rtm.newRule || type === rtm.delRule) return { what: 'ip rule', areas: ['rules'] };
    const route = readRoute(buffer, message);
    if (route !== undefined)
      return this.#own.routeTables.includes(route.table)
        ? { what: `ip route of table ${route.table}`, areas: ['routes'] }
        : undefined;
    const address = readAddress(buffer, message);
    if (address !== undefined)
      return {
        what: address.link === loopbackLink ? 'ip address of lo' : 'ip address of a link',
        areas: ['addresses'],
      };
    // A link that goes down takes its IPv4 routes with it, and nothing is said of them.
    const link = readLink(buffer, message);
    if (link === undefined) return undefined;
    const { name } = link;
    if (name === this.#own.tun) return { what: `ip link ${name}`, areas: ['links', 'routes', 'addresses'] };
    // Nothing of it is remembered, but fish goes by how much fits through it.
    return this.#own.neighbours.includes(name) ? { what: `ip link ${name}`, areas: [] } : undefined;
  }
}

/** A table or a set that goes takes its elements with it, and nothing is said of them. */
const areasOf = (what: NftChange): readonly Area[] =>
  what === 'chain' || what === 'rule' || what === 'object' ? ['table'] : ['table', 'elements'];
