import type { Address, Family } from '../../../src/net/address.ts';
import { listenerFilter, netfilterGroups, NetlinkListener, routeGroups } from '../../../src/sys/netlink-listener.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE } from '../../../src/sys/netlink.ts';
import { NftTable } from '../../../src/sys/nft-table.ts';
import { Routing } from '../../../src/sys/routing.ts';
import { openDescriptors } from './sys-sockets.ts';

/** Routes, rules, addresses and whole tables of nftables, for a test that works inside a namespace. */
let mine: Readonly<{ routing: Routing; table: NftTable; listeners: readonly NetlinkListener[] }> | undefined;

function kernel() {
  if (mine) return mine;
  const [routing, table] = [new Routing(), new NftTable('fs_table')];
  const listeners = [
    new NetlinkListener(NETLINK_ROUTE, Object.values(routeGroups), listenerFilter([routing.portid], [200])),
    new NetlinkListener(NETLINK_NETFILTER, [netfilterGroups.nftables], listenerFilter([table.portid])),
  ];
  return (mine = { routing, table, listeners });
}

export const routingOperations = {
  link: (which: Parameters<Routing['link']>[0]) => kernel().routing.link(which),
  linkUp: (index: number) => kernel().routing.setUp(index),
  addressesOf: (family: Family) => kernel().routing.addresses(family),
  rulesOf: (family: Family) => kernel().routing.rules(family),
  routesOf: (family: Family, table: number) => kernel().routing.routes(family, table),
  changeAddress: (change: 'add' | 'remove', address: string) =>
    kernel().routing.changeAddress(change, address as Address),
  changeRule: (...o: Parameters<Routing['changeRule']>) => kernel().routing.changeRule(...o),
  changeRoute: (...o: Parameters<Routing['changeDefaultRoute']>) => kernel().routing.changeDefaultRoute(...o),
  nftLook: () => kernel().table.look(),
  nftCounters: () => kernel().table.counters(),
  nftRemoveTable: () => kernel().table.remove(),
  /** Types of the messages that were heard since the last time, and whether some are missing. */
  heard() {
    const types: number[] = [];
    const missing = kernel().listeners.map((listener) => listener.drain(({ type }) => types.push(type)));
    return { types, missing: missing.includes(true) };
  },
  listenerLeak(rounds: number): number {
    const before = openDescriptors();
    for (let i = 0; i < rounds; i++)
      new NetlinkListener(NETLINK_ROUTE, [routeGroups.link], listenerFilter([], [1])).close();
    return openDescriptors() - before;
  },
};
