import type { Family } from '../../net/address.ts';
import { familyOf } from '../../net/address.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { SysError } from '../../sys/errno.ts';
import { NftElements, type ElementChange } from '../../sys/nft-elements.ts';
import { openTun, removeTun } from '../../sys/tun.ts';
import { HostProblem, type Counter, type Host, type HostStep } from '../host.ts';
import { describeStep, flaggedFamily, type HostState, type Origin } from '../host-state.ts';
import { counterNames, tableName, type CounterName, type Ruleset } from '../ruleset.ts';
import { parseSetName, type Element } from '../sets.ts';
import { callTool, firstLines, runTool } from './commands.ts';
import { decodeElement, encodeElement } from './element-codec.ts';
import { parseAddresses, parseLinkIsUp, parseRoutes, parseRules, routeProtocol } from './ip-json.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';

export type LinuxHostOptions = Readonly<{
  tun: string;
  routeTable: number;
  families: readonly Family[];
  /** All sysctls that are looked at. */
  sysctls: readonly string[];
}>;

/** The one element that keeps the guard open: mark 0, in host order, which for 0 is any order. */
const aliveKey = new Uint8Array(4);
const table = `inet ${tableName}`;
/** Loaded with the rules, and compared with them. */
const addressSets = ['pool4', 'pool6', 'host4', 'host6'] as const;
const ENOENT = 2;

/** Bounded by the kernel's own bound on one transaction. */
const elementsPerCommit_max = 50_000;

/** The network namespace that this process is in. */
export class LinuxHost implements Host {
  readonly #options: LinuxHostOptions;
  readonly #elements = new NftElements(tableName);
  /** What was loaded last, and how the kernel showed it right after: any other showing means that somebody changed it. */
  #loaded: Readonly<{ text: string; shown: string }> | undefined;

  constructor(options: LinuxHostOptions) {
    this.#options = options;
  }

  async observe(): Promise<HostState> {
    const { families, sysctls, routeTable } = this.#options;
    const perFamily = async (read: (family: Family) => Promise<ReadonlyMap<string, Origin>>) =>
      new Map((await Promise.all(families.map(read))).flatMap((each) => [...each]));
    const [shown, rules, routes, addresses, tun] = await Promise.all([
      this.#show(),
      perFamily(async (family) =>
        parseRules(family, await callTool('ip', ['-N', '-json', '-details', `-${family}`, 'rule', 'show'])),
      ),
      perFamily((family) => readRoutes(family, routeTable)),
      callTool('ip', ['-json', 'address', 'show']).then(parseAddresses),
      this.#observeTun(),
    ]);
    return {
      sysctls: new Map(
        sysctls.flatMap((key) => {
          const value = readSysctl(key);
          return value === undefined ? [] : [[key, value] as const];
        }),
      ),
      ruleset: this.#judge(shown),
      elements: this.#readElements(shown),
      tun,
      routes,
      rules,
      ...addresses,
    };
  }

  async carryOut(steps: readonly HostStep[]): Promise<void> {
    for (let at = 0; at < steps.length;) {
      const run = sameTool(steps, at);
      await this.#carryOutRun(run);
      at += run.length;
    }
  }

  changeElements(add: readonly Element[], remove: readonly Element[]): void {
    const changes = [...bySet('add', add), ...bySet('discard', remove)];
    for (const batch of inBatches(changes)) this.#netlink(() => this.#elements.commit(batch));
  }

  openGuard(ms: number): void {
    this.#netlink(() => this.#elements.renew('alive', aliveKey, ms));
  }

  shutGuard(): void {
    try {
      this.#elements.remove('alive', [aliveKey], { missing: 'ignore' });
    } catch (error) {
      if (!(error instanceof SysError && error.errno === ENOENT)) throw problemOf(error);
    }
  }

  async counters(): Promise<ReadonlyMap<CounterName, Counter>> {
    const { code, stdout, stderr } = await runTool('nft', ['-j', 'list', 'counters', 'table', 'inet', tableName]);
    if (code !== 0) {
      if (isMissing(stderr)) return new Map();
      throw new HostProblem(`nft list counters: ${firstLines(stderr)}`);
    }
    const { nftables } = JSON.parse(stdout) as {
      nftables: readonly { counter?: { name: string; packets: number; bytes: number } }[];
    };
    return new Map(
      nftables.flatMap(({ counter }) => {
        const name = counterNames.find((each) => each === counter?.name);
        return name && counter ? [[name, { packets: counter.packets, bytes: counter.bytes }] as const] : [];
      }),
    );
  }

  close(): void {
    this.#elements.close();
  }

  /** The table as the kernel shows it, with the pools' prefixes, in whatever form the kernel keeps intervals. */
  async #show(): Promise<string | undefined> {
    const shown = await showTable();
    const sets = shown === undefined ? [] : addressSets.filter((set) => shown.includes(`set ${set} {`));
    const members = sets.map((set) => {
      const keys = this.#netlink(() => this.#elements.list(set)).map((key) => Buffer.from(key).toString('hex'));
      return `${set}: ${keys.sort().join(' ')}\n`;
    });
    return shown === undefined ? undefined : shown + members.join('');
  }

  #judge(shown: string | undefined): HostState['ruleset'] {
    if (shown === undefined) return { is: 'absent' };
    return this.#loaded?.shown === shown ? { is: 'loaded', text: this.#loaded.text } : { is: 'unknown' };
  }

  #readElements(shown: string | undefined): HostState['elements'] {
    return new Map(
      setsShown(shown ?? '').map((set) => {
        const keys = this.#netlink(() => this.#elements.list(set));
        return [set, new Set(keys.map((key) => decodeElement(set, key)))];
      }),
    );
  }

  async #observeTun(): Promise<HostState['tun']> {
    const { tun } = this.#options;
    const { code, stdout, stderr } = await runTool('ip', ['-json', 'link', 'show', 'dev', tun]);
    if (code === 0) return parseLinkIsUp(stdout) ? 'up' : 'down';
    if (stderr.includes('does not exist')) return 'absent';
    throw new HostProblem(`ip link show dev ${tun}: ${firstLines(stderr)}`);
  }

  async #carryOutRun(run: readonly HostStep[]): Promise<void> {
    const [first] = run;
    if (!first) return;
    const lines = run.flatMap((step) => ipBatchLine(step) ?? []);
    if (lines.length > 0) {
      await runIpBatch(run, lines);
      return;
    }
    switch (first.do) {
      case 'set-sysctl':
        writeSysctl(first.key, first.value);
        return;
      case 'load-ruleset':
        await this.#load(first.ruleset);
        return;
      case 'remove-table': {
        const { code, stderr } = await runTool('nft', ['delete', 'table', 'inet', tableName]);
        if (code !== 0 && !isMissing(stderr)) throw new HostProblem(`nft delete table: ${firstLines(stderr)}`);
        return;
      }
      case 'add-elements':
        this.changeElements(elementsOfStep(first), []);
        return;
      case 'remove-elements':
        this.changeElements([], elementsOfStep(first));
        return;
      case 'make-tun':
        // Persistent, so that it can be let go again: fish attaches to it, and its end does not take it away.
        this.#device(() => closeFd(openTun(first.name, { persist: true, offload: true }).fd));
        return;
      case 'remove-tun':
        this.#device(() => removeTun(first.name));
        return;
      default:
        throw new Error(`no way to carry out: ${describeStep(first)}`);
    }
  }

  /** One transaction: new rules, sets that are new, sets that are no more. Elements and counters that stay keep their values. */
  async #load(ruleset: Ruleset): Promise<void> {
    const stale = setsShown((await showTable()) ?? '').filter((set) => !ruleset.sets.includes(set));
    const deletions = stale.map((set) => `delete set ${table} ${set}\n`).join('');
    await callTool('nft', ['-f', '-'], ruleset.text + deletions);
    const shown = await this.#show();
    if (shown === undefined)
      throw new HostProblem(`table ${table} was loaded and is gone: does something else flush it?`);
    this.#loaded = { text: ruleset.text, shown };
  }

  #netlink<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw problemOf(error);
    }
  }

  #device(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof SysError && error.code === 'ENOENT')
        throw new HostProblem('/dev/net/tun is missing: load the module tun, or pass the device into the container', {
          cause: error,
        });
      throw problemOf(error);
    }
  }
}

const problemOf = (error: unknown): unknown =>
  error instanceof SysError ? new HostProblem(error.message, { cause: error }) : error;

const isMissing = (stderr: string): boolean => stderr.includes('No such file or directory');

/** The table as text, without counters' values and without elements; undefined when there is none. */
async function showTable(): Promise<string | undefined> {
  const { code, stdout, stderr } = await runTool('nft', ['-s', '-t', 'list', 'table', 'inet', tableName]);
  if (code !== 0) {
    if (isMissing(stderr)) return undefined;
    throw new HostProblem(`nft list table ${table}: ${firstLines(stderr)}`);
  }
  return stdout;
}

const setsShown = (shown: string): readonly string[] =>
  [...shown.matchAll(/^\s*set (\S+) \{$/gm)].flatMap(([, name]) => (name && parseSetName(name) ? [name] : []));

async function readRoutes(family: Family, routeTable: number): Promise<ReadonlyMap<string, Origin>> {
  const args = ['-N', '-json', '-details', `-${family}`, 'route', 'show', 'table', String(routeTable)];
  const { code, stdout, stderr } = await runTool('ip', args);
  if (code === 0) return parseRoutes(family, routeTable, stdout);
  // The kernel makes a table with its first route.
  if (stderr.includes('FIB table does not exist')) return new Map();
  throw new HostProblem(`ip ${args.join(' ')}: ${firstLines(stderr)}`);
}

/** Steps from `at` on that one `ip -batch` can do: of one family, because that is an option of the whole call. */
function sameTool(steps: readonly HostStep[], at: number): readonly HostStep[] {
  const first = steps[at];
  if (!first) return [];
  const family = ipFamily(first);
  if (family === undefined) return [first];
  let end = at + 1;
  for (let step = steps[end]; step && ipFamily(step) === family; step = steps[end]) end++;
  return steps.slice(at, end);
}

/** undefined for a step that is not done by `ip`. */
function ipFamily(step: HostStep): Family | undefined {
  if ('route' in step) return flaggedFamily(step.route);
  if ('rule' in step) return flaggedFamily(step.rule);
  if ('address' in step) return familyOf(step.address);
  return step.do === 'link-up' ? 4 : undefined;
}

/** Without the family, which a batch has as a whole. */
function ipBatchLine(step: HostStep): string | undefined {
  const bits = (family: Family) => (family === 4 ? 32 : 128);
  switch (step.do) {
    case 'link-up':
      return `link set dev ${step.name} up`;
    case 'add-route':
      return `route add ${step.route.slice(3)} protocol ${routeProtocol}`;
    case 'remove-route':
      return `route del ${step.route.slice(3)}`;
    case 'add-rule':
      return `rule add ${step.rule.slice(3)} protocol ${protocolOf(step.rule)}`;
    case 'remove-rule':
      return `rule del ${step.rule.slice(3)}`;
    case 'add-address':
      return `address add ${step.address}/${bits(familyOf(step.address))} dev lo`;
    case 'remove-address':
      return `address del ${step.address}/${bits(familyOf(step.address))} dev lo`;
    default:
      return undefined;
  }
}

/** The rule that was there first is the kernel's own, and is given back as such. */
const protocolOf = (rule: string): string =>
  / priority 0 lookup local$/.test(rule) ? 'kernel' : String(routeProtocol);

async function runIpBatch(run: readonly HostStep[], lines: readonly string[]): Promise<void> {
  const family = run[0] && ipFamily(run[0]);
  const { code, stderr } = await runTool('ip', [`-${family ?? 4}`, '-batch', '-'], `${lines.join('\n')}\n`);
  if (code === 0) return;
  const failed = run[Number(/Command failed -:(\d+)/.exec(stderr)?.[1] ?? 1) - 1] ?? run[0];
  throw new HostProblem(`${failed ? describeStep(failed) : 'ip -batch'}: ${firstLines(stderr)}`);
}

const elementsOfStep = (step: Readonly<{ set: string; keys: readonly string[] }>): readonly Element[] =>
  step.keys.map((key) => ({ set: step.set, key }));

type KeyChange = Extract<ElementChange, { keys: readonly Uint8Array[] }>;

function bySet(change: 'add' | 'discard', elements: readonly Element[]): KeyChange[] {
  return [...Map.groupBy(elements, ({ set }) => set)].map(([set, members]) => ({
    change,
    set,
    keys: members.map(({ key }) => encodeElement(set, key)),
  }));
}

/** One transaction as long as it fits; only a huge load is done in several. */
function inBatches(changes: readonly KeyChange[]): KeyChange[][] {
  const batches: KeyChange[][] = [];
  let room = 0;
  for (const { change, set, keys } of changes)
    for (let from = 0; from < keys.length;) {
      if (room === 0) {
        batches.push([]);
        room = elementsPerCommit_max;
      }
      const piece = keys.slice(from, from + room);
      batches.at(-1)?.push({ change, set, keys: piece });
      from += piece.length;
      room -= piece.length;
    }
  return batches;
}
