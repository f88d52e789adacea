import { SysError } from '../../sys/errno.ts';
import { NftElements, type ElementChange } from '../../sys/nft-elements.ts';
import { NftTable } from '../../sys/nft-table.ts';
import { HostProblem, type Counter } from '../host/host.ts';
import type { HostState } from '../host/host-state.ts';
import { counterNames, guardPriority, tableName, type CounterName, type Ruleset } from '../host/ruleset.ts';
import { parseSetName, type Element } from '../host/sets.ts';
import { callTool } from './commands.ts';
import { inBatches, type Batch } from './element-batches.ts';
import { decodeElement, encodeElement } from './element-codec.ts';

/** The one element that keeps the guard open: mark 0, in host order, which for 0 is any order. */
const aliveKey = new Uint8Array(4);
const table = `inet ${tableName}`;
/** Loaded with the rules, and compared with them. */
const addressSets = ['pool4', 'pool6', 'host4', 'host6'] as const;
const ENOENT = 2;
const NF_INET_POST_ROUTING = 4;
const guardChain = { name: 'guard', type: 'filter', hook: NF_INET_POST_ROUTING, priority: guardPriority } as const;

export type TableState = Pick<HostState, 'ruleset' | 'elements'>;

/**
 * Table `inet fishery` in the kernel. Rules are loaded by `nft`, which alone can translate them, and that is rare;
 * everything else, reading back included, is raw netlink.
 */
export class HostTable {
  readonly #elements = new NftElements(tableName);
  readonly #table = new NftTable(tableName);
  /** What was loaded last, and how the kernel showed it right after: any other showing means that somebody changed it. */
  #loaded: Readonly<{ text: string; shown: string }> | undefined;
  /** The elements as they were read last, with what was changed here since; undefined when that is not known. */
  #known: Map<string, Set<string>> | undefined;

  get portids(): readonly number[] {
    return [this.#elements.portid, this.#table.portid];
  }

  /** How the table is. Without `again`, the elements are those that were read before and changed here since. */
  look(again: boolean): TableState {
    return netlink(() => {
      const look = this.#table.look();
      if (look === undefined) {
        this.#known = undefined;
        return { ruleset: { is: 'absent' }, elements: new Map() };
      }
      const shown = this.#show(look);
      const leaseSets = look.sets.filter((set) => parseSetName(set) !== undefined);
      if (again || this.#known === undefined) this.#known = new Map(leaseSets.map((set) => [set, this.#read(set)]));
      return {
        ruleset: this.#loaded?.shown === shown ? { is: 'loaded', text: this.#loaded.text } : { is: 'unknown' },
        elements: this.#known,
      };
    });
  }

  /** One transaction as long as it fits; only a huge load is done in several. */
  change(add: readonly Element[], remove: readonly Element[]): void {
    const known = this.#known;
    this.#known = undefined;
    for (const batch of inBatches(add, remove)) netlink(() => this.#elements.commit(batch.flatMap(keyChanges)));
    for (const { set, key } of add) known?.get(set)?.add(key);
    for (const { set, key } of remove) known?.get(set)?.delete(key);
    this.#known = known;
  }

  openGuard(ms: number): void {
    netlink(() => this.#elements.renew('alive', aliveKey, ms));
  }

  shutGuard(): void {
    try {
      this.#elements.remove('alive', [aliveKey], { missing: 'ignore' });
    } catch (error) {
      if (!(error instanceof SysError && error.errno === ENOENT)) throw problemOf(error);
    }
  }

  /** For how many milliseconds it stays open; 0 when it is shut, or is not there; Infinity when it has no timeout. */
  guardMs(): number {
    try {
      const [alive] = this.#elements.elements('alive');
      return alive === undefined ? 0 : (alive.expiresMs ?? Infinity);
    } catch (error) {
      if (error instanceof SysError && error.errno === ENOENT) return 0;
      throw problemOf(error);
    }
  }

  /** Whether the guard judges what leaves. */
  isGuarded(): boolean {
    return netlink(() => this.#table.isHooked(guardChain));
  }

  counters(): ReadonlyMap<CounterName, Counter> {
    return new Map(
      netlink(() => this.#table.counters()).flatMap(({ name: found, packets, bytes }) => {
        const name = counterNames.find((each) => each === found);
        return name === undefined ? [] : [[name, { packets, bytes }] as const];
      }),
    );
  }

  /**
   * One transaction: new rules, sets that are new, sets that are no more. Elements and counters that stay keep their values. A
   * table that has what is none of ours, or is of another shape (of a former version, or of a saved ruleset), is made anew.
   */
  async load(ruleset: Ruleset): Promise<void> {
    const before = netlink(() => this.#table.look());
    const isOurs = before === undefined || !this.#hasMore(before.sets, ruleset);
    if (!isOurs || !(await this.#extended(before, ruleset))) await this.#rebuild(ruleset);
    const look = netlink(() => this.#table.look());
    if (look === undefined)
      throw new HostProblem(`table ${table} was loaded and is gone: does something else flush it?`);
    const shown = netlink(() => this.#show(look));
    this.#loaded = { text: ruleset.text, shown };
  }

  /** false for a table in which the kernel does not take these rules. */
  async #extended(before: ReturnType<NftTable['look']>, ruleset: Ruleset): Promise<boolean> {
    const isStale = (set: string) => parseSetName(set) !== undefined && !ruleset.sets.includes(set);
    const stale = (before?.sets ?? []).filter(isStale);
    const deletions = stale.map((set) => `delete set ${table} ${set}\n`).join('');
    try {
      // In the transaction that wakes a table the kernel takes no new hook.
      if (before?.isDormant === true) await callTool('nft', ['add', 'table', 'inet', tableName]);
      await callTool('nft', ['-f', '-'], ruleset.text + deletions);
    } catch (error) {
      if (before === undefined || !(error instanceof HostProblem)) throw error;
      return false;
    }
    for (const set of stale) this.#known?.delete(set);
    for (const set of ruleset.sets) if (this.#known && !this.#known.has(set)) this.#known.set(set, new Set());
    return true;
  }

  /** Whether somebody has put chains or sets into the table that the rules do not name. */
  #hasMore(sets: readonly string[], { text }: Ruleset): boolean {
    const named = new Set([...text.matchAll(/^ *(?:chain|set|map) (\S+) \{/gm)].map(([, name]) => name));
    // The kernel names sets itself that only one rule has.
    const others = sets.filter((set) => parseSetName(set) === undefined && !set.startsWith('__'));
    const chains = netlink(() => this.#table.chains()).map(({ name }) => name);
    return [...others, ...chains].some((name) => !named.has(name));
  }

  /**
   * In one transaction, after which the guard stands and is shut: for as long as the elements take to be there again nothing
   * leaves, and nobody is let through. Then it is open for what it had left. Counters begin anew.
   */
  async #rebuild(ruleset: Ruleset): Promise<void> {
    const openForMs = this.guardMs();
    const since = performance.now();
    const kept = ruleset.sets.map((set) => [set, this.#known?.get(set) ?? this.#readIfOurs(set)] as const);
    await callTool('nft', ['-f', '-'], `add table ${table}\ndelete table ${table}\n${ruleset.text}`);
    this.#known = new Map(ruleset.sets.map((set) => [set, new Set<string>()]));
    const elements = kept.flatMap(([set, keys]) => [...keys].map((key) => ({ set, key })));
    if (elements.length > 0) this.change(elements, []);
    const leftMs = Math.floor(openForMs - (performance.now() - since));
    if (Number.isFinite(leftMs) && leftMs > 0) this.openGuard(leftMs);
  }

  /** Nothing of a set whose keys are of another shape, or that is not there. */
  #readIfOurs(set: string): ReadonlySet<string> {
    try {
      const keys = this.#elements.list(set);
      const isOurs = (key: Uint8Array) => Buffer.compare(encodeElement(set, decodeElement(set, key)), key) === 0;
      return keys.every(isOurs) ? new Set(keys.map((key) => decodeElement(set, key))) : new Set();
    } catch (error) {
      if (error instanceof SysError || error instanceof RangeError) return new Set();
      throw error;
    }
  }

  remove(): void {
    netlink(() => this.#table.remove());
    this.#known = undefined;
  }

  close(): void {
    this.#elements.close();
    this.#table.close();
  }

  /** The table as the kernel shows it, with the pools' prefixes, in whatever form the kernel keeps intervals. */
  #show({ digest, sets }: Readonly<{ digest: string; sets: readonly string[] }>): string {
    const members = addressSets.map((set) => {
      const keys = sets.includes(set) ? this.#elements.list(set) : [];
      return `${set}: ${keys
        .map((key) => Buffer.from(key).toString('hex'))
        .sort()
        .join(' ')}`;
    });
    return [digest, ...members].join('\n');
  }

  #read(set: string): Set<string> {
    return new Set(this.#elements.list(set).map((key) => decodeElement(set, key)));
  }
}

const problemOf = (error: unknown): unknown =>
  error instanceof SysError ? new HostProblem(error.message, { cause: error }) : error;

function netlink<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw problemOf(error);
  }
}

type KeyChange = Extract<ElementChange, { keys: readonly Uint8Array[] }>;

const keyChanges = ({ change, elements }: Batch[number]): readonly KeyChange[] =>
  [...Map.groupBy(elements, ({ set }) => set)].map(([set, members]) => ({
    change,
    set,
    keys: members.map(({ key }) => encodeElement(set, key)),
  }));
