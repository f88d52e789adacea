import { familiesOf } from '../../src/agent/host/families.ts';
import { HostProblem, type Counter, type GuardState, type Host, type HostStep } from '../../src/agent/host/host.ts';
import { isLocalRule, type HostState, type Origin, type SteeringState } from '../../src/agent/host/host-state.ts';
import type { CounterName, Ruleset } from '../../src/agent/host/ruleset.ts';
import type { Element } from '../../src/agent/host/sets.ts';
import { parseAddress, type Address } from '../../src/net/address.ts';

/**
 * A host in memory: what the agent's steps do to a kernel, as far as the agent can see it. It refuses what the kernel
 * refuses (a route through a device that is not there, an element for a set that is not there), so that a wrong order
 * of steps fails here as it would there.
 */
export class FakeHost implements Host {
  readonly sysctls = new Map([
    ['net/ipv4/ip_local_port_range', '32768\t60999'],
    ['net/ipv4/tcp_early_demux', '1'],
    ['net/ipv4/tcp_fastopen', '1'],
    ['net/ipv4/ping_group_range', '1\t0'],
    ['net/ipv4/conf/all/rp_filter', '0'],
    ['net/ipv4/conf/up0/forwarding', '0'],
    ['net/ipv4/conf/client0/forwarding', '0'],
    ...['all', 'default', 'lo'].map((device) => [`net/ipv6/conf/${device}/disable_ipv6`, '0'] as const),
  ]);
  table: { text: string | null; sets: Map<string, Set<string>> } | undefined;
  tun: HostState['tun'] = 'absent';
  tunName = 'fishtun';
  tunQueue = 0;
  readonly routes = new Map<string, Origin>();
  readonly rules = new Map<string, Origin>(
    ['-4', '-6'].flatMap((family) => [
      [`${family} priority 0 lookup local`, 'foreign'] as const,
      [`${family} priority 32766 lookup main`, 'foreign'] as const,
    ]),
  );
  /** The steering program on devices; `absentDevices` are not there to have it. */
  readonly steering = new Map<string, SteeringState>();
  readonly absentDevices = new Set<string>();
  readonly addresses = new Set(['127.0.0.1', '::1'] as Address[]);
  /** On its other interfaces. */
  readonly linkAddresses = new Set<Address>();
  othersTranslate = false;
  /** For how many milliseconds the guard was opened last; undefined while it is shut. */
  guardOpenMs: number | undefined;
  /** As the kernel would show it; tests that care set it. */
  guardMs = 0;
  /** Every step that was carried out. */
  readonly done: HostStep[] = [];
  observations = 0;
  /** Throws instead of carrying out a step for which it answers a text. */
  failOn: (step: HostStep) => string | undefined = () => undefined;
  onStep: (step: HostStep) => void = () => {};

  listen(): void {}

  hear(): readonly string[] {
    return [];
  }

  sysctlsChanged(): readonly string[] {
    return [];
  }

  steeringChanged(): readonly string[] {
    return [];
  }

  async observe(_scope: 'all' | 'changed'): Promise<HostState> {
    this.observations++;
    return this.state();
  }

  state(): HostState {
    const { table } = this;
    return {
      sysctls: new Map(this.sysctls),
      families: familiesOf(this.sysctls, this.tunName),
      ruleset:
        table === undefined
          ? { is: 'absent' }
          : table.text === null
            ? { is: 'unknown' }
            : { is: 'loaded', text: table.text },
      elements: new Map([...(table?.sets ?? [])].map(([set, keys]) => [set, new Set(keys)])),
      guardMs: this.guardMs,
      tun: this.tun,
      tunQueue: this.tunQueue,
      steering: new Map([...this.steering, ...[...this.absentDevices].map((device) => [device, 'no-device'] as const)]),
      routes: new Map(this.routes),
      rules: new Map(this.rules),
      addresses: new Set(this.addresses),
      linkAddresses: new Set(this.linkAddresses),
      othersTranslate: this.othersTranslate,
    };
  }

  async carryOut(steps: readonly HostStep[]): Promise<void> {
    for (const step of steps) {
      const failure = this.failOn(step);
      if (failure !== undefined) throw new HostProblem(failure);
      this.#apply(step);
      this.done.push(step);
      this.onStep(step);
    }
  }

  changeElements(add: readonly Element[], remove: readonly Element[]): void {
    for (const { set } of [...add, ...remove])
      if (!this.table?.sets.has(set)) throw new HostProblem(`nft add: ENOENT (inet fishery ${set})`);
    for (const { set, key } of add) this.table?.sets.get(set)?.add(key);
    for (const { set, key } of remove) this.table?.sets.get(set)?.delete(key);
  }

  openGuard(ms: number): void {
    if (!this.table) throw new HostProblem('nft renew: ENOENT (inet fishery alive)');
    this.guardOpenMs = ms;
  }

  shutGuard(): void {
    this.guardOpenMs = undefined;
  }

  guard(): GuardState {
    return { stands: this.table !== undefined, openForMs: this.guardOpenMs ?? 0 };
  }

  async counters(): Promise<ReadonlyMap<CounterName, Counter>> {
    return new Map(this.table ? [['guard_uid', { packets: 3, bytes: 180 }]] : []);
  }

  close(): void {}

  /** Which families cannot find the host's own addresses just now. */
  familiesWithoutLocal(): readonly string[] {
    return ['-4', '-6'].filter(
      (family) => ![...this.rules.keys()].some((rule) => isLocalRule(rule) && rule.startsWith(family)),
    );
  }

  elements(set: string): readonly string[] {
    return [...(this.table?.sets.get(set) ?? [])].sort();
  }

  #apply(step: HostStep): void {
    switch (step.do) {
      case 'set-sysctl':
        if (!this.sysctls.has(step.key)) throw new HostProblem(`sysctl ${step.key}: no such file`);
        this.sysctls.set(step.key, step.value);
        return;
      case 'load-ruleset': {
        this.#load(step.ruleset);
        return;
      }
      case 'remove-table':
        this.table = undefined;
        this.guardOpenMs = undefined;
        return;
      case 'add-elements': {
        this.changeElements(
          step.keys.map((key) => ({ set: step.set, key })),
          [],
        );
        return;
      }
      case 'remove-elements': {
        this.changeElements(
          [],
          step.keys.map((key) => ({ set: step.set, key })),
        );
        return;
      }
      case 'make-tun':
        this.tun = 'down';
        this.tunQueue = 500;
        this.tunName = step.name;
        for (const name of ['forwarding', 'accept_local', 'rp_filter'])
          this.sysctls.set(`net/ipv4/conf/${step.name}/${name}`, '0');
        this.sysctls.set(`net/ipv6/conf/${step.name}/addr_gen_mode`, '0');
        if (this.sysctls.has('net/ipv6/conf/lo/force_forwarding'))
          this.sysctls.set(`net/ipv6/conf/${step.name}/force_forwarding`, '0');
        return;
      case 'remove-tun':
        this.tun = 'absent';
        this.tunQueue = 0;
        for (const device of this.steering.keys()) this.steering.set(device, 'stale');
        for (const key of [...this.sysctls.keys()]) if (key.includes(`/${step.name}/`)) this.sysctls.delete(key);
        for (const route of [...this.routes.keys()])
          if (route.includes(` dev ${step.name} `)) this.routes.delete(route);
        return;
      case 'link-up':
        if (this.tun === 'absent') throw new HostProblem(`no device ${step.name}`);
        this.tun = 'up';
        return;
      case 'link-down':
        this.tun = 'down';
        return;
      case 'set-queue':
        this.tunQueue = step.packets;
        return;
      case 'attach-steering':
        if (this.tun === 'absent') throw new HostProblem(`there is no device ${this.tunName} to steer to`);
        if (this.absentDevices.has(step.device)) throw new HostProblem(`bpf(LINK_CREATE): ENODEV (${step.device})`);
        this.steering.set(step.device, 'current');
        return;
      case 'detach-steering':
        this.steering.delete(step.device);
        return;
      case 'add-route':
        if (step.route.includes(` dev ${this.tunName} `) && this.tun !== 'up')
          throw new HostProblem('route add: the device is not up');
        {
          addNew(this.routes, step.route);
          return;
        }
      case 'remove-route': {
        removeOld(this.routes, step.route);
        return;
      }
      case 'add-rule': {
        addNew(this.rules, step.rule, step.rule.includes('priority 0 ') ? 'foreign' : 'ours');
        return;
      }
      case 'remove-rule': {
        removeOld(this.rules, step.rule);
        return;
      }
      case 'add-address':
        if (this.addresses.has(step.address)) throw new HostProblem(`${step.address} is there already`);
        this.addresses.add(step.address);
        return;
      case 'remove-address':
        if (!this.addresses.delete(step.address)) throw new HostProblem(`${step.address} is not there`);
    }
  }

  #load(ruleset: Ruleset): void {
    const before = this.table?.sets;
    this.table = { text: ruleset.text, sets: new Map(ruleset.sets.map((set) => [set, before?.get(set) ?? new Set()])) };
  }
}

function addNew(entries: Map<string, Origin>, text: string, origin: Origin = 'ours'): void {
  if (entries.has(text)) throw new HostProblem(`${text}: File exists`);
  entries.set(text, origin);
}

function removeOld(entries: Map<string, Origin>, text: string): void {
  if (!entries.delete(text)) throw new HostProblem(`${text}: No such file or directory`);
}

/** For tests: an address from text that is one. */
export function address(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}
