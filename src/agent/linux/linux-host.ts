import { closeFd } from '../../sys/descriptors.ts';
import { SysError } from '../../sys/errno.ts';
import { othersTranslate } from '../../sys/nft-nat.ts';
import { fitMtu, openTun, queueLength, removeTun } from '../../sys/tun.ts';
import { familiesOf, familyKeys } from '../host/families.ts';
import { HostProblem, type Counter, type GuardState, type Host, type HostStep } from '../host/host.ts';
import type { HostState } from '../host/host-state.ts';
import { tableName, type CounterName } from '../host/ruleset.ts';
import type { Element } from '../host/sets.ts';
import { areas, ForeignChanges, type Area } from './foreign-changes.ts';
import { HostRouting } from './host-routing.ts';
import { HostTable, type TableState } from './host-table.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';
import type { SteeringLinks } from '../steering/steering-links.ts';

export type LinuxHostOptions = Readonly<{
  tun: string;
  /** Between which it lies: what is too large for one of them must not come as far as the TUN. */
  neighbours: readonly string[];
  /** Routing tables that are the agent's. */
  routeTables: readonly number[];
  /** All sysctls that are looked at. */
  sysctls: readonly string[];
  /** The steering program's links; null where nothing of the kind was ever attached. */
  steering: Pick<SteeringLinks, 'observe' | 'attach' | 'detach'> | null;
}>;

/**
 * The network namespace that this process is in. What it has read it remembers, part by part, until somebody changes that
 * part: of others' changes the kernel tells (`listen`), and its own it knows.
 */
export class LinuxHost implements Host {
  readonly #options: LinuxHostOptions;
  readonly #keys: readonly string[];
  readonly #routing: HostRouting;
  readonly #table = new HostTable();
  #others: ForeignChanges | undefined;
  /** Parts that are not any more as they were read. */
  readonly #stale = new Set<Area>(areas);
  #links: Pick<HostState, 'tun' | 'tunQueue'> = { tun: 'absent', tunQueue: 0 };
  #routes: HostState['routes'] = new Map();
  #rules: HostState['rules'] = new Map();
  #addresses: Pick<HostState, 'addresses' | 'linkAddresses'> = { addresses: new Set(), linkAddresses: new Set() };
  #tableState: TableState = { ruleset: { is: 'absent' }, elements: new Map() };
  #sysctls: HostState['sysctls'] = new Map();
  #steering: HostState['steering'] = new Map();
  #othersTranslate = false;

  constructor(options: LinuxHostOptions) {
    this.#options = options;
    this.#keys = [...new Set([...options.sysctls, ...familyKeys(options.tun)])];
    // Of a family that is switched off as well: what is the agent's stands there, and is to go.
    const hasIpv6 = readSysctl('net/ipv6/conf/all/disable_ipv6') !== undefined;
    this.#routing = new HostRouting(hasIpv6 ? [4, 6] : [4]);
  }

  listen(): void {
    if (this.#others) return;
    const { routeTables, tun, neighbours } = this.#options;
    const [routing, netfilter] = [[this.#routing.portid], this.#table.portids];
    this.#others = device(() => new ForeignChanges({ routing, netfilter, routeTables, tun, neighbours }));
    this.#distrust(areas);
  }

  hear(): readonly string[] {
    const changes = this.#others?.take() ?? [];
    for (const change of changes) this.#distrust(change.areas);
    return changes.map(({ what }) => what);
  }

  sysctlsChanged(): readonly string[] {
    return [...this.#readSysctls()].flatMap(([key, value]) => (this.#sysctls.get(key) === value ? [] : [key]));
  }

  steeringChanged(): readonly string[] {
    const now = this.#readSteering();
    const devices = new Set([...now.keys(), ...this.#steering.keys()]);
    return [...devices].filter((each) => this.#steering.get(each) !== now.get(each));
  }

  async observe(scope: 'all' | 'changed'): Promise<HostState> {
    this.hear();
    // Whoever does not listen has to look.
    if (scope === 'all' || !this.#others) this.#distrust(areas);
    const { routeTables } = this.#options;
    const isStale = (area: Area) => this.#stale.has(area);
    if (isStale('table') || isStale('elements')) this.#tableState = this.#table.look(isStale('elements'));
    if (isStale('rules')) this.#rules = device(() => this.#routing.rules());
    if (isStale('routes')) this.#routes = device(() => this.#routing.routes(routeTables));
    if (isStale('addresses')) this.#addresses = device(() => this.#routing.addresses());
    if (isStale('links')) this.#links = device(() => this.#lookAtTun());
    if (isStale('nat')) this.#othersTranslate = device(() => othersTranslate(tableName));
    this.#sysctls = this.#readSysctls();
    this.#steering = this.#readSteering();
    this.#stale.clear();
    return {
      sysctls: this.#sysctls,
      families: familiesOf(this.#sysctls, this.#options.tun),
      rules: this.#rules,
      routes: this.#routes,
      ...this.#addresses,
      ...this.#links,
      ...this.#tableState,
      guardMs: this.#table.guardMs(),
      steering: this.#steering,
      othersTranslate: this.#othersTranslate,
    };
  }

  async carryOut(steps: readonly HostStep[]): Promise<void> {
    try {
      for (let at = 0; at < steps.length;) {
        // Elements that change together are one transaction: a lease with parts in several sets is never half there.
        const end = endOfElements(steps, at);
        const step = steps[at];
        if (end > at) this.#changeElements(steps.slice(at, end));
        else if (step) await this.#carryOut(step);
        at = Math.max(end, at + 1);
      }
    } catch (error) {
      // A sysctl that was not set has changed nothing.
      if (steps.some((step) => step.do !== 'set-sysctl')) this.#distrust(areas);
      throw error;
    }
  }

  changeElements(add: readonly Element[], remove: readonly Element[]): void {
    this.#table.change(add, remove);
  }

  openGuard(ms: number): void {
    this.#table.openGuard(ms);
  }

  shutGuard(): void {
    this.#table.shutGuard();
  }

  guard(): GuardState {
    return { stands: this.#table.isGuarded(), openForMs: this.#table.guardMs() };
  }

  async counters(): Promise<ReadonlyMap<CounterName, Counter>> {
    return this.#table.counters();
  }

  close(): void {
    this.#others?.close();
    this.#routing.close();
    this.#table.close();
  }

  /** What the kernel made a device as; null for hardware, undefined where there is none of that name. */
  kindOf(name: string): string | null | undefined {
    return device(() => this.#routing.kindOf(name));
  }

  #lookAtTun(): Pick<HostState, 'tun' | 'tunQueue'> {
    const { tun: name } = this.#options;
    const tun = this.#routing.device(name);
    return { tun, tunQueue: tun === 'absent' ? 0 : queueLength(name) };
  }

  #distrust(which: readonly Area[]): void {
    for (const area of which) this.#stale.add(area);
  }

  #readSteering(): HostState['steering'] {
    return device(() => this.#options.steering?.observe() ?? new Map());
  }

  #readSysctls(): ReadonlyMap<string, string> {
    return new Map(
      this.#keys.flatMap((key) => {
        const value = readSysctl(key);
        return value === undefined ? [] : [[key, value] as const];
      }),
    );
  }

  #changeElements(steps: readonly HostStep[]): void {
    const those = (what: 'add-elements' | 'remove-elements'): readonly Element[] =>
      steps.flatMap((step) => (step.do === what ? step.keys.map((key) => ({ set: step.set, key })) : []));
    this.#table.change(those('add-elements'), those('remove-elements'));
  }

  async #carryOut(step: HostStep): Promise<void> {
    switch (step.do) {
      case 'set-sysctl':
        writeSysctl(step.key, step.value);
        return;
      case 'load-ruleset':
        this.#distrust(['table']);
        await this.#table.load(step.ruleset);
        return;
      case 'remove-table':
        this.#distrust(['table']);
        this.#table.remove();
        return;
      case 'add-elements':
      case 'remove-elements':
        this.#changeElements([step]);
        return;
      case 'make-tun':
        this.#distrust(['links', 'routes']);
        // Persistent, so that it can be let go again: fish attaches to it, and its end does not take it away.
        device(() => closeFd(openTun(step.name, { persist: true, offload: true }).fd));
        device(() => fitMtu(step.name, this.#options.neighbours));
        return;
      case 'remove-tun':
        this.#distrust(['links', 'routes']);
        device(() => removeTun(step.name));
        return;
      case 'attach-steering':
        device(() => this.#options.steering?.attach(step.device));
        return;
      case 'detach-steering':
        device(() => this.#options.steering?.detach(step.device));
        return;
      case 'set-queue':
        this.#distrust(['links']);
        device(() => queueLength(step.name, step.packets));
        return;
      case 'link-up':
      case 'link-down':
        this.#distrust(['links', 'routes', 'addresses']);
        break;
      case 'add-route':
      case 'remove-route':
        this.#distrust(['routes']);
        break;
      case 'add-rule':
      case 'remove-rule':
        this.#distrust(['rules']);
        break;
      case 'add-address':
      case 'remove-address':
        this.#distrust(['addresses']);
    }
    this.#routing.carryOut(step);
  }
}

function device<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    const message =
      error.code === 'ENOENT' && error.syscall === 'open'
        ? '/dev/net/tun is missing: load the module tun, or pass the device into the container'
        : error.message;
    throw new HostProblem(message, { cause: error });
  }
}

const isElements = (step: HostStep | undefined): boolean =>
  step?.do === 'add-elements' || step?.do === 'remove-elements';

/** Where the steps about elements that begin at `from` end; `from` itself where none does. */
function endOfElements(steps: readonly HostStep[], from: number): number {
  let end = from;
  while (isElements(steps[end])) end++;
  return end;
}
