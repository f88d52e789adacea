import { tableName } from '../agent/host/ruleset.ts';

/** What `nft -j list ruleset` shows, as far as checks look at it. Expressions stay as they are: any of them may be new. */
export type NftChain = Readonly<{
  family: string;
  table: string;
  name: string;
  /** Of base chains only. */
  type: string | null;
  hook: string | null;
  priority: number | null;
}>;
export type NftRule = Readonly<{ family: string; table: string; chain: string; handle: number; expr: readonly Json[] }>;
export type NftSet = Readonly<{
  family: string;
  table: string;
  name: string;
  isInterval: boolean;
  elements: readonly Json[];
}>;
export type NftFacts = Readonly<{
  chains: readonly NftChain[];
  rules: readonly NftRule[];
  sets: readonly NftSet[];
  counters: ReadonlyMap<string, number>;
}>;

export type Json = string | number | boolean | null | readonly Json[] | Readonly<{ [key: string]: Json | undefined }>;
type JsonObject = Readonly<{ [key: string]: Json | undefined }>;

export const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
export const listOf = (value: Json | undefined): readonly Json[] =>
  Array.isArray(value) ? (value as readonly Json[]) : value === undefined || value === null ? [] : [value];
const textOf = (value: Json | undefined): string => (typeof value === 'string' ? value : '');
const numberOf = (value: Json | undefined): number => (typeof value === 'number' ? value : 0);

export const isOurs = ({ family, table }: Readonly<{ family: string; table: string }>): boolean =>
  family === 'inet' && table === tableName;
export const placeOf = ({ family, table, chain }: Readonly<{ family: string; table: string; chain: string }>): string =>
  `table ${family} ${table} chain ${chain}`;

export function parseNft(text: string): NftFacts {
  const document = JSON.parse(text) as Json;
  const chains: NftChain[] = [];
  const rules: NftRule[] = [];
  const sets: NftSet[] = [];
  const counters = new Map<string, number>();
  for (const item of isObject(document) ? listOf(document['nftables']) : []) {
    if (!isObject(item)) continue;
    const { chain, rule, set, map, counter } = item;
    const at = (object: JsonObject) => ({ family: textOf(object['family']), table: textOf(object['table']) });
    if (isObject(chain))
      chains.push({
        ...at(chain),
        name: textOf(chain['name']),
        type: textOf(chain['type']) || null,
        hook: textOf(chain['hook']) || null,
        priority: typeof chain['prio'] === 'number' ? chain['prio'] : null,
      });
    if (isObject(rule))
      rules.push({
        ...at(rule),
        chain: textOf(rule['chain']),
        handle: numberOf(rule['handle']),
        expr: listOf(rule['expr']),
      });
    for (const each of [set, map])
      if (isObject(each))
        sets.push({
          ...at(each),
          name: textOf(each['name']),
          isInterval: listOf(each['flags']).includes('interval'),
          elements: listOf(each['elem']),
        });
    if (isObject(counter) && isOurs(at(counter))) counters.set(textOf(counter['name']), numberOf(counter['packets']));
  }
  return { chains, rules, sets, counters };
}

/** The elements of one of our own sets; undefined when there is no such set. */
export const ourSet = (nft: NftFacts, name: string): readonly Json[] | undefined =>
  nft.sets.find((set) => isOurs(set) && set.name === name)?.elements;

export type Match = Readonly<{ op: string; left: Json | undefined; right: Json | undefined }>;

export const matchesOf = (rule: NftRule): readonly Match[] =>
  rule.expr.flatMap((expression) => {
    const match = isObject(expression) ? expression['match'] : undefined;
    return isObject(match) ? [{ op: textOf(match['op']), left: match['left'], right: match['right'] }] : [];
  });

/** `ip saddr` of a match's left side as `ip.saddr`, `meta mark` as `meta.mark`; undefined for what is composed. */
export function fieldOf(left: Json | undefined): string | undefined {
  if (!isObject(left)) return undefined;
  const { payload, meta, ct } = left;
  if (isObject(payload)) return `${textOf(payload['protocol'])}.${textOf(payload['field'])}`;
  if (isObject(meta)) return `meta.${textOf(meta['key'])}`;
  if (isObject(ct)) return `ct.${textOf(ct['key'])}`;
  return undefined;
}

/** Whether one of the rule's statements is this one (`masquerade`, `snat`), also as iptables spells it. */
export function hasStatement(rule: NftRule, names: readonly string[]): boolean {
  return rule.expr.some((expression) => {
    if (!isObject(expression)) return false;
    if (names.some((name) => name in expression)) return true;
    const { xt } = expression;
    return isObject(xt) && names.includes(textOf(xt['name']).toLowerCase());
  });
}
