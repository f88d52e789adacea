import { addressToBytes, ipv4FromNumber, type Address, type Family } from '../net/address.ts';
import { AF_INET, AF_INET6 } from './constants.ts';
import {
  eachAttribute,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  type Message,
  type MessageWriter,
} from './netlink-message.ts';
import { ipv6Text } from './sock-diag-message.ts';

/** The messages of rtnetlink(7) about links, addresses, routes and rules (include/uapi/linux/rtnetlink.h); no socket here. */
export const rtm = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
  newRule: 32,
  delRule: 33,
  getRule: 34,
} as const;

/** `kind`: what the kernel made it as (tun, veth, bridge ...); null for hardware, and for the loopback device. */
export type LinkInfo = Readonly<{ index: number; name: string; kind: string | null; isUp: boolean }>;
/** An address that the host has on a link. */
export type AddressInfo = Readonly<{ family: Family; link: number; address: Address; prefixLength: number }>;

/** A route, as far as a route to a device or to nowhere goes. `destination` and `gateway` are text; `type` is RTN_*. */
export type RouteInfo = Readonly<{
  family: Family;
  table: number;
  type: number;
  /** Who made it, as routing daemons number themselves (RTPROT_*). */
  protocol: number;
  destination: string;
  gateway?: string;
  link?: number;
  metric?: number;
}>;

export const routeTypes = { unicast: 1, local: 2, blackhole: 6 } as const;

/** A policy rule. What has no field here is in `others`: attribute numbers and the bytes, by name where it has one. */
export type RuleInfo = Readonly<{
  family: Family;
  priority: number;
  protocol: number;
  /** undefined for a rule that does not look a table up. */
  table?: number;
  mark?: Readonly<{ value: number; mask: number }>;
  iif?: string;
  source?: string;
  others: Readonly<Record<string, unknown>>;
}>;

const nativeFamily = (family: Family): number => (family === 4 ? AF_INET : AF_INET6);
const textFamily = (family: number): Family | undefined =>
  family === AF_INET ? 4 : family === AF_INET6 ? 6 : undefined;

const IFF_UP = 1;
const IFLA_IFNAME = 3;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_TABLE = 15;
const FRA_SRC = 2;
const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_PROTOCOL = 21;
const FR_ACT_TO_TBL = 1;
const FIB_RULE_INVERT = 2;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
const RT_SCOPE_NOWHERE = 255;
const FRA_PAD = 18;

/** Names of what else a rule may look at, as `ip` calls it. */
const ruleAttributes: Readonly<Record<number, string>> = {
  1: 'dst',
  4: 'goto',
  11: 'flow',
  12: 'tun_id',
  13: 'suppress_ifgroup',
  14: 'suppress_prefixlength',
  17: 'oif',
  19: 'l3mdev',
  20: 'uidrange',
  22: 'ipproto',
  23: 'sport',
  24: 'dport',
  25: 'dscp',
};

const number32 = (value: number): Uint8Array => Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
const asText = (buffer: Uint8Array, from: number, to: number): string =>
  Buffer.from(buffer.subarray(from, to)).toString().replace(/\0.*$/s, '');
const read32 = (buffer: Uint8Array, at: number): number =>
  new DataView(buffer.buffer, buffer.byteOffset).getUint32(at, true);
const asAddress = (buffer: Uint8Array, family: Family, from: number): Address => {
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  return family === 4 ? ipv4FromNumber(view.getUint32(from)) : (ipv6Text(view, from) as Address);
};

/** Asks for one link, by name or by index. */
export function writeLinkRequest(writer: MessageWriter, which: Readonly<{ name: string } | { index: number }>): void {
  const body = new Uint8Array(16);
  if ('index' in which) body.set(number32(which.index), 4);
  writer.begin(rtm.getLink, NLM_F_REQUEST | NLM_F_ACK, body);
  if ('name' in which) writer.textAttribute(IFLA_IFNAME, which.name);
}

export function readLink(buffer: Uint8Array, { type, from, to }: Message): LinkInfo | undefined {
  if (type !== rtm.newLink && type !== rtm.delLink) return undefined;
  let name = '';
  let kind: string | null = null;
  eachAttribute(buffer, from + 16, to, (attribute, start, end) => {
    if (attribute === IFLA_IFNAME) name = asText(buffer, start, end);
    if (attribute !== IFLA_LINKINFO) return;
    eachAttribute(buffer, start, end, (inner, innerStart, innerEnd) => {
      if (inner === IFLA_INFO_KIND) kind = asText(buffer, innerStart, innerEnd);
    });
  });
  return { index: read32(buffer, from + 4), name, kind, isUp: (read32(buffer, from + 8) & IFF_UP) !== 0 };
}

/** Brings a link up; returns the sequence number to wait for. */
export function writeLinkState(writer: MessageWriter, index: number, state: 'up' | 'down'): number {
  const body = new Uint8Array(16);
  body.set(number32(index), 4);
  body.set(number32(state === 'up' ? IFF_UP : 0), 8);
  body.set(number32(IFF_UP), 12);
  return writer.begin(rtm.newLink, NLM_F_REQUEST | NLM_F_ACK, body);
}

/** Asks for all addresses of a family. */
export function writeAddressDump(writer: MessageWriter, family: Family): void {
  writer.begin(rtm.getAddress, NLM_F_REQUEST | NLM_F_DUMP, Uint8Array.of(nativeFamily(family), 0, 0, 0, 0, 0, 0, 0));
}

export function readAddress(buffer: Uint8Array, { type, from, to }: Message): AddressInfo | undefined {
  const family = textFamily(buffer[from] ?? 0);
  if ((type !== rtm.newAddress && type !== rtm.delAddress) || family === undefined) return undefined;
  let own: Address | undefined;
  let peer: Address | undefined;
  eachAttribute(buffer, from + 8, to, (attribute, start) => {
    // Where both are there (always, for IPv4), the other one is the far end of a point-to-point link.
    if (attribute === IFA_LOCAL) own = asAddress(buffer, family, start);
    if (attribute === IFA_ADDRESS) peer = asAddress(buffer, family, start);
  });
  const address = own ?? peer;
  return address === undefined
    ? undefined
    : { family, link: read32(buffer, from + 4), address, prefixLength: buffer[from + 1] ?? 0 };
}

/** Puts a single address on a link, or takes it away; returns the sequence number to wait for. */
export function writeAddressChange(
  writer: MessageWriter,
  change: 'add' | 'remove',
  { family, link, bytes }: Readonly<{ family: Family; link: number; bytes: Uint8Array }>,
): number {
  const body = Uint8Array.of(nativeFamily(family), bytes.length * 8, 0, 0, ...number32(link));
  const sequence = writer.begin(change === 'add' ? rtm.newAddress : rtm.delAddress, changeFlags(change), body);
  writer.attribute(IFA_LOCAL, bytes);
  writer.attribute(IFA_ADDRESS, bytes);
  return sequence;
}

const changeFlags = (change: 'add' | 'remove'): number =>
  NLM_F_REQUEST | NLM_F_ACK | (change === 'add' ? NLM_F_CREATE | NLM_F_EXCL : 0);

/** A table's number goes into the header while it fits there, and into an attribute always. */
const tableByte = (table: number): number => (table > 255 ? 0 : table);

/** Asks for the routes of one table: ENOENT when there was never a route in it. */
export function writeRouteDump(writer: MessageWriter, family: Family, table: number): void {
  const body = new Uint8Array(12);
  body[0] = nativeFamily(family);
  writer.begin(rtm.getRoute, NLM_F_REQUEST | NLM_F_DUMP, body);
  writer.attribute(RTA_TABLE, number32(table));
}

export function readRoute(buffer: Uint8Array, { type, from, to }: Message): RouteInfo | undefined {
  const family = textFamily(buffer[from] ?? 0);
  if ((type !== rtm.newRoute && type !== rtm.delRoute) || family === undefined) return undefined;
  const length = buffer[from + 1] ?? 0;
  let table = buffer[from + 4] ?? 0;
  let destination = 'default';
  const found: { gateway?: string; link?: number; metric?: number } = {};
  eachAttribute(buffer, from + 12, to, (attribute, start) => {
    if (attribute === RTA_TABLE) table = read32(buffer, start);
    if (attribute === RTA_DST) {
      const isWhole = length === (family === 4 ? 32 : 128);
      destination = `${asAddress(buffer, family, start)}${isWhole ? '' : `/${length}`}`;
    }
    if (attribute === RTA_GATEWAY) found.gateway = asAddress(buffer, family, start);
    if (attribute === RTA_OIF) found.link = read32(buffer, start);
    if (attribute === RTA_PRIORITY) found.metric = read32(buffer, start);
  });
  return { family, table, type: buffer[from + 7] ?? 0, protocol: buffer[from + 5] ?? 0, destination, ...found };
}

/** How far a destination without a gateway is, which IPv4 wants to be told. */
const scopeOf = ({ family, type }: Pick<RouteInfo, 'family' | 'type'>): number =>
  family === 6 ? 0 : type === routeTypes.unicast ? RT_SCOPE_LINK : type === routeTypes.local ? RT_SCOPE_HOST : 0;

/** A default route to a link, to this host itself, or to nowhere. Returns the sequence number to wait for. */
export function writeDefaultRoute(
  writer: MessageWriter,
  change: 'add' | 'remove',
  route: Pick<RouteInfo, 'family' | 'table' | 'type' | 'protocol' | 'link' | 'metric'>,
): number {
  const body = new Uint8Array(12);
  body[0] = nativeFamily(route.family);
  body[4] = tableByte(route.table);
  // What is to be removed is meant whatever its scope and its maker.
  body[5] = change === 'add' ? route.protocol : 0;
  body[6] = change === 'add' ? scopeOf(route) : RT_SCOPE_NOWHERE;
  body[7] = route.type;
  const sequence = writer.begin(change === 'add' ? rtm.newRoute : rtm.delRoute, changeFlags(change), body);
  writer.attribute(RTA_TABLE, number32(route.table));
  if (route.metric !== undefined) writer.attribute(RTA_PRIORITY, number32(route.metric));
  if (route.link !== undefined) writer.attribute(RTA_OIF, number32(route.link));
  return sequence;
}

export function writeRuleDump(writer: MessageWriter, family: Family): void {
  const body = new Uint8Array(12);
  body[0] = nativeFamily(family);
  writer.begin(rtm.getRule, NLM_F_REQUEST | NLM_F_DUMP, body);
}

export function readRule(buffer: Uint8Array, { type, from, to }: Message): RuleInfo | undefined {
  const family = textFamily(buffer[from] ?? 0);
  if ((type !== rtm.newRule && type !== rtm.delRule) || family === undefined) return undefined;
  const [destinationLength = 0, sourceLength = 0, tos = 0, header = 0] = buffer.subarray(from + 1, from + 5);
  const action = buffer[from + 7] ?? 0;
  const others: Record<string, unknown> = {};
  if ((read32(buffer, from + 8) & FIB_RULE_INVERT) !== 0) others['not'] = null;
  if (tos !== 0) others['tos'] = tos;
  if (action !== FR_ACT_TO_TBL) others['action'] = action;
  const found: { priority: number; protocol: number; table: number; value?: number; mask?: number } = {
    priority: 0,
    protocol: 0,
    table: header,
  };
  const names: { iif?: string; source?: string } = {};
  eachAttribute(buffer, from + 12, to, (attribute, start, end) => {
    if (attribute === FRA_PRIORITY) found.priority = read32(buffer, start);
    else if (attribute === FRA_PROTOCOL) found.protocol = buffer[start] ?? 0;
    else if (attribute === FRA_TABLE) found.table = read32(buffer, start);
    else if (attribute === FRA_FWMARK) found.value = read32(buffer, start);
    else if (attribute === FRA_FWMASK) found.mask = read32(buffer, start);
    else if (attribute === FRA_IIFNAME) names.iif = asText(buffer, start, end);
    else if (attribute === FRA_SRC) names.source = prefixText(asAddress(buffer, family, start), family, sourceLength);
    else if (attribute === FRA_PAD || isNothing(buffer, attribute, start)) return;
    else if (attribute === 1) others['dst'] = prefixText(asAddress(buffer, family, start), family, destinationLength);
    else others[ruleAttributes[attribute] ?? `attribute_${attribute}`] = hexOf(buffer, start, end);
  });
  return {
    family,
    priority: found.priority,
    protocol: found.protocol,
    ...(action === FR_ACT_TO_TBL ? { table: found.table } : {}),
    ...(found.value === undefined && found.mask === undefined
      ? {}
      : { mark: { value: found.value ?? 0, mask: found.mask ?? 0xffff_ffff } }),
    ...names,
    others,
  };
}

/** Told of every rule, whether it has one or not: -1 means none; l3mdev and the group are told as 0 by some kernels. */
const isNothing = (buffer: Uint8Array, attribute: number, at: number): boolean =>
  ((attribute === FRA_SUPPRESS_PREFIXLEN || attribute === 13) && read32(buffer, at) === 0xffff_ffff) ||
  (attribute === 19 && buffer[at] === 0);

const prefixText = (address: Address, family: Family, length: number): string =>
  length === (family === 4 ? 32 : 128) ? address : `${address}/${length}`;
const hexOf = (buffer: Uint8Array, from: number, to: number): string =>
  Buffer.from(buffer.subarray(from, to)).toString('hex');

/** A rule that looks a table up, for all packets or for those with a mark, from somewhere or from a link. */
export function writeRuleChange(
  writer: MessageWriter,
  change: 'add' | 'remove',
  rule: Pick<RuleInfo, 'family' | 'priority' | 'table' | 'mark' | 'source' | 'iif' | 'protocol'>,
): number {
  const body = new Uint8Array(12);
  const table = rule.table ?? 0;
  body[0] = nativeFamily(rule.family);
  body[4] = tableByte(table);
  body[7] = FR_ACT_TO_TBL;
  const [source, length] = rule.source?.split('/') ?? [];
  const sourceBytes = source === undefined ? undefined : addressToBytes(source as Address);
  if (sourceBytes) body[2] = Number(length ?? sourceBytes.length * 8);
  const sequence = writer.begin(change === 'add' ? rtm.newRule : rtm.delRule, changeFlags(change), body);
  writer.attribute(FRA_PRIORITY, number32(rule.priority));
  writer.attribute(FRA_TABLE, number32(table));
  if (rule.mark !== undefined) {
    writer.attribute(FRA_FWMARK, number32(rule.mark.value));
    writer.attribute(FRA_FWMASK, number32(rule.mark.mask));
  }
  if (sourceBytes) writer.attribute(FRA_SRC, sourceBytes);
  if (rule.iif !== undefined) writer.textAttribute(FRA_IIFNAME, rule.iif);
  if (change === 'add') writer.attribute(FRA_PROTOCOL, Uint8Array.of(rule.protocol));
  return sequence;
}
