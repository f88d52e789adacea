import { parseAddress } from '../net/address.ts';
import type { PortRange } from '../net/ports.ts';
import { parsePrefix, prefixContains, prefixesOverlap, prefixAddress, hostPrefix, type Prefix } from '../net/prefix.ts';
import { fieldOf, isObject, listOf, matchesOf, type Json, type NftFacts, type NftRule } from './nft-json.ts';

/** What somebody else's rules would do to our packets, as far as that can be told by looking at them. */

/** Whether a rule may see packets with such a source; `perhaps` where it looks at something else as well. */
export function seesSource(rule: NftRule, nft: NftFacts, prefixes: readonly Prefix[]): 'no' | 'perhaps' | 'yes' {
  if (rule.family === 'ip' && prefixes.every((prefix) => prefix.includes(':'))) return 'no';
  if (rule.family === 'ip6' && prefixes.every((prefix) => !prefix.includes(':'))) return 'no';
  let certain = true;
  for (const { op, left, right } of matchesOf(rule)) {
    const field = fieldOf(left);
    if (field === 'ip.saddr' || field === 'ip6.saddr') {
      const ofFamily = prefixes.filter((prefix) => prefix.includes(':') === (field === 'ip6.saddr'));
      const named = prefixesIn(right, rule, nft);
      if (named === undefined) certain = false;
      else if (op === '!=' ? ofFamily.every((ours) => isCovered(ours, named)) : !overlapAny(ofFamily, named))
        return 'no';
    } else if (field !== 'meta.oifname' && field !== 'meta.oif' && field !== 'ip.protocol' && field !== 'meta.l4proto')
      certain = false;
  }
  const isBase = nft.chains.some(
    ({ family, table, name, hook }) =>
      family === rule.family && table === rule.table && name === rule.chain && hook !== null,
  );
  return certain && isBase && !comesAfterAnExit(rule, nft) ? 'yes' : 'perhaps';
}

/** A rule above that may let packets leave the chain before they get here. */
const comesAfterAnExit = (rule: NftRule, nft: NftFacts): boolean =>
  nft.rules
    .slice(0, nft.rules.indexOf(rule))
    .some(
      (other) =>
        other.family === rule.family &&
        other.table === rule.table &&
        other.chain === rule.chain &&
        other.expr.some((each) => isObject(each) && ['return', 'accept', 'jump', 'goto'].some((name) => name in each)),
    );

const overlapAny = (some: readonly Prefix[], others: readonly Prefix[]): boolean =>
  some.some((prefix) => others.some((other) => prefixesOverlap(prefix, other)));
const isCovered = (ours: Prefix, named: readonly Prefix[]): boolean =>
  named.some((other) => prefixContains(other, prefixAddress(ours, 0n)) && lengthOf(other) <= lengthOf(ours));
const lengthOf = (prefix: Prefix): number => Number(prefix.slice(prefix.indexOf('/') + 1));

/** The prefixes that the right side of an address match stands for; undefined where that cannot be told. */
function prefixesIn(right: Json | undefined, rule: NftRule, nft: NftFacts): readonly Prefix[] | undefined {
  if (typeof right === 'string' && right.startsWith('@')) {
    const set = nft.sets.find(
      ({ family, table, name }) => family === rule.family && table === rule.table && `@${name}` === right,
    );
    return set && allOf(set.elements);
  }
  if (isObject(right) && 'set' in right) return allOf(listOf(right['set']));
  return allOf([right ?? null]);
}

function allOf(elements: readonly Json[]): readonly Prefix[] | undefined {
  const prefixes: Prefix[] = [];
  for (const element of elements) {
    const prefix = prefixOf(element);
    if (prefix === undefined) return undefined;
    prefixes.push(prefix);
  }
  return prefixes;
}

/** An element of a set of addresses as a prefix; undefined for what is neither an address nor a prefix (a range, say). */
export function prefixOf(element: Json): Prefix | undefined {
  if (isObject(element) && isObject(element['elem'])) return prefixOf(element['elem']['val'] ?? null);
  if (typeof element === 'string') {
    const address = parseAddress(element);
    return address.ok ? hostPrefix(address.value) : undefined;
  }
  const prefix = isObject(element) ? element['prefix'] : undefined;
  if (!isObject(prefix)) return undefined;
  const { addr, len } = prefix;
  const parsed = parsePrefix(typeof addr === 'string' && typeof len === 'number' ? `${addr}/${len}` : '');
  return parsed.ok ? parsed.value : undefined;
}

/** Ranges of more than one destination port that a rule matches. */
export function destinationRanges(rule: NftRule, nft: NftFacts): readonly PortRange[] {
  return matchesOf(rule).flatMap(({ op, left, right }) => {
    if (op === '!=' || !/^(tcp|udp|th)\.dport$/.test(fieldOf(left) ?? '')) return [];
    return portsIn(right, rule, nft);
  });
}

function portsIn(right: Json | undefined, rule: NftRule, nft: NftFacts): readonly PortRange[] {
  if (typeof right === 'string' && right.startsWith('@')) {
    const set = nft.sets.find(
      ({ family, table, name }) => family === rule.family && table === rule.table && `@${name}` === right,
    );
    return (set?.elements ?? []).flatMap((each) => portsIn(each, rule, nft));
  }
  if (!isObject(right)) return [];
  if ('set' in right) return listOf(right['set']).flatMap((each) => portsIn(each, rule, nft));
  const [first, last] = listOf(right['range']);
  return typeof first === 'number' && typeof last === 'number' ? [{ first, last }] : [];
}

/** What a rule sets the packet mark to; `bits` are those that it may change. undefined for a rule that sets none. */
export function markSetBy(rule: NftRule): Readonly<{ bits: number; value: number | undefined }> | undefined {
  for (const expression of rule.expr) {
    const mangle = isObject(expression) ? expression['mangle'] : undefined;
    if (!isObject(mangle) || fieldOf(mangle['key']) !== 'meta.mark') continue;
    const { value } = mangle;
    if (typeof value === 'number') return { bits: 0xffff_ffff, value: value >>> 0 };
    return maskedMark(value) ?? { bits: 0xffff_ffff, value: undefined };
  }
  return undefined;
}

/** `meta mark & MASK | VALUE`, in either nesting that nft shows. */
function maskedMark(value: Json | undefined): Readonly<{ bits: number; value: number | undefined }> | undefined {
  if (!isObject(value)) return undefined;
  const [or, orValue] = listOf(value['|']);
  const kept = keptBy(or ?? value);
  if (kept === undefined) return typeof orValue === 'number' && fieldOf(or) === 'meta.mark' ? both(orValue) : undefined;
  const set = typeof orValue === 'number' ? orValue : 0;
  return { bits: (~kept | set) >>> 0, value: set >>> 0 };
}

const both = (value: number) => ({ bits: value >>> 0, value: value >>> 0 });

function keptBy(value: Json | undefined): number | undefined {
  if (!isObject(value)) return undefined;
  const [and, mask] = listOf(value['&']);
  return fieldOf(and) === 'meta.mark' && typeof mask === 'number' ? mask : undefined;
}
