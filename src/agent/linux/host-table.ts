import { SysError } from '../../sys/errno.ts';
import { NftElements, type ElementChange } from '../../sys/nft-elements.ts';
import { NftTable } from '../../sys/nft-table.ts';
import { HostProblem, type Counter } from '../host/host.ts';
import type { HostState } from '../host/host-state.ts';
import { counterNames, tableName, type CounterName, type Ruleset } from '../host/ruleset.ts';
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
    return netlink(() => this.#table.isHooked('filter', NF_INET_POST_ROUTING));
  }

  counters(): ReadonlyMap<CounterName, Counter> {
    return new Map(
      netlink(() => this.#table.counters()).flatMap(({ name: found, packets, bytes }) => {
        const name = counterNames.find((each) => each === found);
        return name === undefined ? [] : [[name, { packets, bytes }] as const];
      }),
    );
  }

  /** One transaction: new rules, sets that are new, sets that are no more. Elements and counters that stay keep their values. */
  async load(ruleset: Ruleset): Promise<void> {
    const before = netlink(() => this.#table.look());
    // In the transaction that wakes a table the kernel takes no new hook.
    if (before?.isDormant === true) await callTool('nft', ['add', 'table', 'inet', tableName]);
    const stale = (before?.sets ?? []).filter((set) => parseSetName(set) !== undefined && !ruleset.sets.includes(set));
    const deletions = stale.map((set) => `delete set ${table} ${set}\n`).join('');
    await callTool('nft', ['-f', '-'], ruleset.text + deletions);
    const look = netlink(() => this.#table.look());
    if (look === undefined)
      throw new HostProblem(`table ${table} was loaded and is gone: does something else flush it?`);
    const shown = netlink(() => this.#show(look));
    this.#loaded = { text: ruleset.text, shown };
    for (const set of stale) this.#known?.delete(set);
    for (const set of ruleset.sets) if (this.#known && !this.#known.has(set)) this.#known.set(set, new Set());
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
