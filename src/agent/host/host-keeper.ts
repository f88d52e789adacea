import { familyOf, type Address, type Family } from '../../net/address.ts';
import type { Logger } from '../../ops/logger.ts';
import { desiredHost, type HostLoad, type HostSettings } from './desired-host.ts';
import { missingFamily } from './families.ts';
import { HostProblem, type Host, type HostStep } from './host.ts';
import {
  describeStep,
  driftOf,
  flaggedFamily,
  isOfIpv6,
  type DesiredHost,
  type DriftKind,
  type HostState,
  type RecordPart,
  type Step,
  type Wish,
} from './host-state.ts';
import { carries, leftOnHost } from '../placeholders/left-on-host.ts';
import { plan } from './plan.ts';
import { RefusedSysctls } from './refused-sysctls.ts';
import { parseSetName, setName, type Element, type SetClass } from './sets.ts';
import { describeHostAddress, foreignRouting, hostAddressesInPools } from '../status/standing-problems.ts';
import type { StateFile } from './state-file.ts';

/** What the host has to carry now, as far as it cannot be seen on the host. */
export type HeldLoad = Omit<HostLoad, 'hostAddresses' | 'othersTranslate' | 'families' | 'tunFamilies'>;

export type HostKeeperParts = Readonly<{
  host: Pick<Host, 'observe' | 'carryOut' | 'changeElements'>;
  stateFile: Pick<StateFile, 'isBegun' | 'recorded' | 'record' | 'forget' | 'sliced' | 'noteGuarded'>;
  settings: HostSettings;
  load(): HeldLoad;
  /** Name of the pool that an address lies in. */
  poolOf(address: Address): string | undefined;
  /** For how many milliseconds the guard may be open from now on; undefined before this agent has set it at all. */
  guardOpenForMs(): number | undefined;
  /** The table was made from nothing, or somebody set its guard: it is to be as it was promised. */
  mendGuard(): void;
  log: Pick<Logger, 'info' | 'warn'>;
}>;

/** Keeps the host as it should be: looks, plans, writes down, carries out. One call at a time. */
export class HostKeeper {
  readonly #parts: HostKeeperParts;
  /**
   * Every class of sets that was needed since the start. One that falls out of use stays: a look-up in an empty set is
   * cheap, and reloading the table whenever the last lease of a size comes or goes is not. There are at most 510.
   */
  readonly #classes = new Map<string, SetClass>();
  /** How the host was to be when everything was carried out last; differences since then were made by others. */
  #reached: string | undefined;
  #addresses: ReadonlySet<Address> = new Set();
  #standing: readonly string[] = [];
  /** What the kernel said to the first step of IPv6 that it would not carry out. */
  #ipv6Problem: string | undefined;
  /** Who has the TUN device of a fish that is wanted no more. */
  #tunProblem: string | undefined;
  readonly #refused = new RefusedSysctls();
  readonly #repaired = new Map<DriftKind, number>();

  constructor(parts: HostKeeperParts) {
    this.#parts = parts;
  }

  /** Whether this address is on the host, and guarded. */
  hasAddress(address: Address): boolean {
    return this.#addresses.has(address);
  }

  /** What others put on the host that does not go together with this agent, a line each, as of the last look. */
  get standingProblems(): readonly string[] {
    return this.#standing;
  }

  /** Why fish cannot work on this host; undefined when it can. */
  get stopsFish(): string | undefined {
    return this.#refused.stopsFish;
  }

  /** What others did to the agent's part of the host and was undone, by kind. */
  get repaired(): ReadonlyMap<DriftKind, number> {
    return this.#repaired;
  }

  /**
   * Makes the host as it should be, after looking at all of it or at what was changed; throws HostProblem half-way, and
   * the next call goes on from there.
   */
  async reconcile(scope: 'all' | 'changed'): Promise<void> {
    const { host, stateFile, settings, log } = this.#parts;
    const load = this.#parts.load();
    for (const each of load.classes) this.#classes.set(setName(each), each);
    const observed = await host.observe(scope);
    if (!stateFile.isBegun) this.#begin(observed, load.addresses);
    const { othersTranslate } = observed;
    stateFile.noteGuarded(load.prefixes, load.addresses);
    const { sliced } = stateFile;
    const hostAddresses = hostAddressesInPools(observed, { ...load, sliced });
    const classes = [...this.#classes.values()];
    const { host: families, tun: tunFamilies } = observed.families;
    const whole = { ...load, families, tunFamilies, hostAddresses, classes, othersTranslate };
    const wanted = desiredHost(settings, whole, stateFile.recorded);
    const steps = plan(observed, wanted, stateFile.recorded);
    const signature = signatureOf(wanted);
    const isDrift = this.#reached === signature;
    this.#reached = undefined;
    this.#refused.keepOnly(steps);
    const hadIpv6 = this.#ipv6Problem === undefined;
    const hadTun = this.#tunProblem === undefined;
    const news = steps.filter(
      (step) => !this.#refused.has(step) && (hadIpv6 || !isOfIpv6(step)) && (hadTun || !isTunsEnd(step)),
    );
    if (news.length > 0) {
      const lines = news.map(describeStep);
      if (isDrift) log.warn({ steps: lines }, 'somebody changed the host: putting it back');
      else log.info({ steps: lines }, 'changing the host');
    }
    await this.#carryOut(steps, wanted.sysctls);
    if (isDrift) for (const step of news) if (!this.#refused.has(step)) this.#count(driftOf(step));
    if (observed.ruleset.is === 'absent') this.#parts.mendGuard();
    else if (isDrift && isGuardSetByOthers(observed, this.#parts.guardOpenForMs())) {
      log.warn({ guard_ms: observed.guardMs }, 'somebody set the guard: putting it back');
      this.#parts.mendGuard();
      this.#count({ kind: 'guard', count: 1 });
    }
    // What of IPv6, and of the TUN device, is still to be done is nobody's doing at the next look.
    this.#reached = this.#ipv6Problem === undefined && this.#tunProblem === undefined ? signature : undefined;
    this.#tellStanding([
      ...hostAddresses.map((each) => describeHostAddress(each, this.#parts.poolOf(each) ?? 'of another name')),
      ...foreignRouting(observed, settings),
      ...this.#refused.problems,
      ...missingFamily(observed.families, settings, load.addresses),
      ...(this.#ipv6Problem === undefined ? [] : [`IPv6 cannot be had as it should be: ${this.#ipv6Problem}`]),
      ...(this.#tunProblem === undefined
        ? []
        : [`fish is not wanted, and its device cannot be removed: ${this.#tunProblem}`]),
    ]);
    this.#addresses =
      this.#ipv6Problem === undefined
        ? wanted.addresses
        : new Set([...wanted.addresses].filter((each) => familyOf(each) === 4 || observed.addresses.has(each)));
  }

  /** Changes elements of leases, after making the sets that the table does not have yet. */
  async changeElements(add: readonly Element[], remove: readonly Element[]): Promise<void> {
    const isNew = [...add].some(({ set }) => !this.#classes.has(set) && parseSetName(set) !== undefined);
    if (isNew || this.#reached === undefined) await this.reconcile('changed');
    try {
      this.#parts.host.changeElements(add, remove);
    } catch (error) {
      // What the next look finds missing was not taken away by anybody.
      this.#reached = undefined;
      throw error;
    }
  }

  /** Nothing is changed before there is a record; what an agent without one left here comes into it. */
  #begin(observed: HostState, addresses: readonly Address[]): void {
    const { stateFile, settings, log } = this.#parts;
    const left = leftOnHost(observed, settings, addresses);
    stateFile.record(left);
    if (carries(observed).length === 0) return;
    log.warn(
      { found: carries(observed), taken_over: describeStep({ do: 'record', part: left }) },
      'a former agent left things on this host, and no record of how it was before: they are taken over; sysctls stay as they are',
    );
  }

  /** Sockets of fish's flows that do not hold their tuples any more: they are taken anew. */
  noteLostSockets(count: number): void {
    this.#parts.log.warn({ sockets: count }, "sockets that hold fish's 5-tuples were destroyed: taking them anew");
    this.#count({ kind: 'socket', count });
  }

  #count(drift: Readonly<{ kind: DriftKind; count: number }> | undefined): void {
    if (drift) this.#repaired.set(drift.kind, (this.#repaired.get(drift.kind) ?? 0) + drift.count);
  }

  /** Each is said once when it comes, and once when it is gone. */
  #tellStanding(now: readonly string[]): void {
    const { log } = this.#parts;
    const before = this.#standing;
    this.#standing = now;
    for (const line of now) if (!before.includes(line)) log.warn(line);
    for (const line of before) if (!now.includes(line)) log.info(`no longer so: ${line}`);
  }

  /**
   * A sysctl that cannot be set ends nothing, and a step of IPv6 that fails only what was to follow of IPv6, which may lean on it;
   * whatever else fails ends it all.
   */
  async #carryOut(steps: readonly Step[], wishes: readonly Wish[]): Promise<void> {
    const { host, stateFile } = this.#parts;
    this.#ipv6Problem = undefined;
    this.#tunProblem = undefined;
    let run: HostStep[] = [];
    const flush = async () => {
      if (run.length > 0) await host.carryOut(run);
      run = [];
    };
    for (const step of steps) {
      if (!('part' in step) && step.do !== 'set-sysctl' && !isOfIpv6(step) && !isTunsEnd(step)) {
        run.push(step);
        continue;
      }
      await flush();
      if (isTunsEnd(step)) this.#tunProblem = await this.#attempt(step);
      else if (!('part' in step) && step.do !== 'set-sysctl') this.#ipv6Problem ??= await this.#attempt(step);
      else if (step.do === 'set-sysctl') {
        const wish = wishes.find(({ key }) => key === step.key);
        if (!this.#refused.hasAny(wish?.after ?? [])) await this.#setSysctl(step, wish);
      } else if (step.do === 'record') stateFile.record(step.part);
      else stateFile.forget(this.#undoneOf(step.part));
    }
    await flush();
  }

  /** What could not be put back is still to be known. */
  #undoneOf(part: RecordPart): RecordPart {
    const { sysctls, addresses, rules } = part;
    const isUndone = (family: Family): boolean => family === 4 || this.#ipv6Problem === undefined;
    return {
      ...part,
      tun: this.#tunProblem === undefined ? part.tun : null,
      sysctls: sysctls.filter(([key]) => !this.#refused.hasAny([key])),
      addresses: addresses.filter((each) => isUndone(familyOf(each))),
      rules: rules.filter((each) => isUndone(flaggedFamily(each))),
    };
  }

  /** What the host says to a step without which all else goes on; undefined when it is done. */
  async #attempt(step: HostStep): Promise<string | undefined> {
    try {
      await this.#parts.host.carryOut([step]);
      return undefined;
    } catch (error) {
      if (!(error instanceof HostProblem)) throw error;
      return error.message;
    }
  }

  async #setSysctl(step: HostStep & { do: 'set-sysctl' }, wish: Wish | undefined): Promise<void> {
    try {
      await this.#parts.host.carryOut([step]);
      this.#refused.isSet(step);
    } catch (error) {
      if (!(error instanceof HostProblem)) throw error;
      this.#refused.note(step, wish, error);
    }
  }
}

/** Somebody may have the device: then it stays for as long, and keeps nothing else from being done. */
const isTunsEnd = (step: Step): step is HostStep & { do: 'remove-tun' } =>
  !('part' in step) && step.do === 'remove-tun';

/**
 * Whether the guard is not as it was promised: open for longer, or for good, or shut before its time. One that this agent
 * has not set yet was left open by the one before it, for a while.
 */
function isGuardSetByOthers({ guardMs }: Pick<HostState, 'guardMs'>, promisedMs: number | undefined): boolean {
  if (promisedMs === undefined) return guardMs === Infinity;
  return guardMs > promisedMs + guardSlack_ms || (guardMs === 0 && promisedMs > guardSlack_ms);
}
/** For the kernel's grain, and for the time between two looks at clocks. */
const guardSlack_ms = 1_000;

/** Two desired hosts with the same signature differ in elements at most, which come and go with leases. */
const signatureOf = ({ ruleset, tun, steering, routes, rules, addresses, sysctls }: DesiredHost): string =>
  JSON.stringify([
    ruleset?.text,
    tun,
    [...steering],
    [...routes],
    [...rules],
    [...addresses].sort(),
    sysctls.map(({ key }) => key),
  ]);
