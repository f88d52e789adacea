import { formatPorts } from '../../net/ports.ts';
import type { Lease } from '../../wire/leases.ts';
import type { DesiredMachine } from '../server/desired.ts';
import { isOfOwnSlice, type LeaseSource } from './lease-source.ts';
import { ArrivingLeases } from './arriving-leases.ts';
import { FishBlocks } from './fish-blocks.ts';
import { FormerOwners } from './former-owners.ts';
import { CgroupFollower } from './cgroup-follower.ts';
import { HeldLeases, isLost, type Held, type Phase } from './held-leases.ts';
import { LeaseElements } from './lease-elements.ts';
import type { LeaseHost, LeaseOutcome } from './lease-host.ts';
import { LeavingLeases } from './leaving-leases.ts';
import { cgroupOf, identityOf, isKnownAlike, isSameOwner, ownerOf } from './ownership.ts';
import type { ElementsBySet, Owner, ProxyOwner, SetClass } from '../host/sets.ts';

/** How often leases are tried again that were up before the host refused them. */
const retry_every_ms = 5_000;

export type LeaseStatus = Readonly<{
  lease: string;
  holder: string;
  block: string;
  phase: Phase;
  for_s: number;
  detail: string | null;
}>;

/**
 * The life of every lease on this host: where each is, and where it should be. The way up is `leases/arriving-leases.ts`,
 * the way down `leases/leaving-leases.ts`.
 *
 * Nothing is reported before it is true, and a lease that the kernel refuses leaves nothing behind.
 */
export class LeasesOnHost {
  readonly #host: LeaseHost;
  readonly #leases: HeldLeases;
  readonly #fish: FishBlocks;
  readonly #arriving: ArrivingLeases;
  readonly #leaving: LeavingLeases;
  readonly #formers: FormerOwners;
  readonly #cgroups: CgroupFollower;
  readonly #touched = new Set<string>();
  /** Leases of fish's that wait for the server to answer again. */
  readonly #waiting = new Set<string>();
  #hasLetGo = false;
  #hasAdopted = false;
  #retriedAt = -Infinity;

  constructor(host: LeaseHost) {
    this.#host = host;
    this.#leases = new HeldLeases(host, new LeaseElements((add, remove) => host.changeElements(add, remove)));
    this.#fish = new FishBlocks(host, this.#leases);
    this.#formers = new FormerOwners(host, this.#leases);
    this.#arriving = new ArrivingLeases(host, this.#leases, this.#fish, this.#formers);
    this.#leaving = new LeavingLeases(host, this.#leases, this.#fish, this.#formers);
    this.#cgroups = new CgroupFollower(host.cgroups, this.#leases, () => host.now());
  }

  /** These leases are to be looked at in the next `work`. */
  touch(leases: Iterable<string>): void {
    for (const lease of leases) this.#touched.add(lease);
  }

  /** Everything that should be in the table now. */
  elements(): ElementsBySet {
    return this.#leases.elements.bySet();
  }

  /** The sets that those elements are in or will go to. */
  classes(): readonly SetClass[] {
    return this.#leases.elements.classes();
  }

  /**
   * Counts in the leases that were up before this agent started, so that reconciling the table keeps their elements and
   * no packet of a living connection is dropped meanwhile. The rest follows in `work`.
   */
  adopt(desired: DesiredMachine, holders: LeaseSource['holders'] = desired.holders): void {
    for (const lease of desired.leases.values()) {
      const holder = holders.get(lease.holder);
      if (!holder || lease.state === 'pending' || this.#leases.get(lease.id)) continue;
      const owner = ownerOf(holder, this.#host.cgroups);
      const former = this.#host.owners.formerOf(lease.holder);
      if (typeof owner === 'object') this.#adoptOne(lease, owner, former);
      else this.#adoptLost(lease, owner, former);
    }
    this.#host.owners.flush();
    this.touch(desired.leases.keys());
  }

  /** Whoever the holder was to a former agent may have something open there. */
  #adoptOne(lease: Lease, owner: Owner, former: readonly ProxyOwner[]): void {
    const held = this.#leases.open(lease, owner, true);
    this.#host.owners.note(lease.holder, owner);
    for (const each of former) if (!isKnownAlike(each, owner)) this.#formers.add(held, each);
  }

  /** Nobody can be let in by what the holder is known by now, which `problem` says; who was may finish. */
  #adoptLost(lease: Lease, problem: string, former: readonly ProxyOwner[]): void {
    const last = former.at(-1);
    if (!last) return;
    const held = this.#leases.open(lease, last, true);
    for (const each of former) this.#formers.add(held, each);
    this.#leases.refuse(held, { errno: 'EPERM', detail: problem });
  }

  /** Every lease of the host was adopted: what a former agent knew and nobody has anything of is forgotten. */
  forgetFormer(): void {
    if (this.#hasAdopted) return;
    this.#hasAdopted = true;
    this.#keepOwners();
    this.#host.owners.flush();
  }

  #keepOwners(): void {
    const present = new Map<string, Map<string, ProxyOwner>>();
    const count = (holder: string, owner: Owner) => {
      if (owner.kind !== 'proxy') return;
      const owners = present.get(holder) ?? new Map<string, ProxyOwner>();
      present.set(holder, owners.set(identityOf(owner), owner));
    };
    for (const { lease, owner } of this.#leases.all()) {
      count(lease.holder, owner);
      for (const former of this.#formers.of(lease.id)) count(lease.holder, former);
    }
    this.#host.owners.keepOnly(new Map([...present].map(([holder, owners]) => [holder, [...owners.values()]])));
  }

  /**
   * The server has been silent for longer than the horizon, and what fish has may be another machine's by now; or it answers
   * again. `work` does what is to be done, and `letGo` what has to be done first.
   */
  setFenced(isFenced: boolean): void {
    this.#fish.setFenced(isFenced);
    this.#hasLetGo = false;
    if (!isFenced) this.touch([...this.#waiting, ...[...this.#leases.fishes].map(({ lease }) => lease.id)]);
    this.#waiting.clear();
  }

  /**
   * Past the horizon: once fish's flows have ended, lets go of the ports that it has to itself. Its leases stay, with their
   * elements, and are brought up anew when the server answers. Throws HostProblem when a keeper is lost.
   */
  async letGo(): Promise<void> {
    if (!this.#fish.isFenced || this.#hasLetGo) return;
    // A fish that is away forwards nothing, and is told before anything else when it is there again.
    await this.#fish.tell(new Set(), []);
    for (const held of this.#leases.fishes) {
      if (held.phase !== 'up' && held.phase !== 'opening') continue;
      await this.#host.placeholders.close(held.lease.id);
      this.#leases.reopen(held);
    }
    this.#hasLetGo = true;
  }

  /** Fish is new and knows no blocks: the next `work` tells it. */
  fishIsNew(): void {
    this.#fish.fishIsNew();
  }

  get hasWork(): boolean {
    return this.#touched.size > 0 || this.#leases.elements.isBehind || this.#fish.isBehind;
  }

  /** When the sockets of a lease that ends, or the cgroups of holders, should be looked at again; undefined for never. */
  nextLookInMs(): number | undefined {
    const next = Math.min(
      ...[this.#leaving, this.#formers, this.#cgroups].map((each) => each.nextLookInMs() ?? Infinity),
      this.#nextRetryInMs(),
    );
    return Number.isFinite(next) ? next : undefined;
  }

  /** Whether anything is left of the leases that `which` names. */
  holds(which: (lease: Lease, owner: Owner) => boolean): boolean {
    return [...this.#leases.all()].some(
      ({ lease, owner, phase, wasUp }) => (phase !== 'refused' || wasUp) && which(lease, owner),
    );
  }

  /** Leases that were up and that the host would not have any more, in one line for people; null when there is none. */
  get problem(): string | null {
    const [first] = this.#leases.lost;
    if (!first?.refusal) return null;
    const { lease, refusal } = first;
    const more = this.#leases.lost.size > 1 ? `, and ${this.#leases.lost.size - 1} more` : '';
    return `this host refuses ${lease.id} of ${lease.holder}, which was up: ${refusal.errno}: ${refusal.detail}${more}`;
  }

  phaseOf(lease: string): Phase | undefined {
    return this.#leases.get(lease)?.phase;
  }

  /**
   * Brings the touched leases to where they should be and returns what the server has to hear. When fish is away its own
   * leases wait, and `problem` says so. Any other failure is thrown after everything touched was marked again: the next
   * call goes on from there.
   */
  async work(
    desired: LeaseSource,
  ): Promise<Readonly<{ outcomes: readonly LeaseOutcome[]; problem: Error | undefined }>> {
    this.touch(this.#cgroups.look());
    if (this.#nextRetryInMs() <= 0) {
      this.touch([...this.#leases.lost].map(({ lease }) => lease.id));
      this.#retriedAt = this.#host.now();
    }
    // Of one that is gone already nothing more is told, also when its slice goes.
    for (const { lease, isTaken } of this.#leases.ending)
      if (!isTaken && !desired.leases.has(lease.id) && !isOfOwnSlice(lease, desired)) this.#touched.add(lease.id);
    const touched = [...this.#touched];
    this.#touched.clear();
    try {
      const outcomes: LeaseOutcome[] = [];
      const arriving: Held[] = [];
      const leaving: Held[] = [];
      for (const id of touched) this.#judge(id, desired, { arriving, leaving, outcomes });
      this.#host.owners.flush();
      this.touch(await this.#leaving.begin(leaving, outcomes));
      this.touch(await this.#arriving.bringUp(arriving, outcomes));
      if (this.#formers.look() && this.#hasAdopted) this.#keepOwners();
      await this.#leaving.finish((lease) => desired.leases.has(lease), outcomes);
      return { outcomes, problem: this.#fish.takeProblem() };
    } catch (error) {
      this.touch(touched);
      throw error;
    }
  }

  status(): readonly LeaseStatus[] {
    const now = this.#host.now();
    return [...this.#leases.all()].map(({ lease, block, owner, phase, since, refusal }) => ({
      lease: lease.id,
      holder: lease.holder,
      block: `${block.address} ${block.protocol} ${formatPorts(block.ports)}`,
      phase,
      for_s: Math.round((now - since) / 1_000),
      detail: refusal
        ? `${refusal.errno}: ${refusal.detail}`
        : (this.#leaving.waitsFor(lease.id) ??
          this.#formers.waitsFor(lease.id) ??
          missingCgroup(owner) ??
          this.#fencedDetail(owner)),
    }));
  }

  /** When those that were up, and were refused since, are to be tried again. */
  #nextRetryInMs(): number {
    if (this.#leases.lost.size === 0) return Infinity;
    return Math.max(0, this.#retriedAt + retry_every_ms - this.#host.now());
  }

  #fencedDetail(owner: Owner): string | null {
    return owner.kind === 'fish' && this.#fish.isFenced ? 'waits for the server to answer a keepalive' : null;
  }

  /** Where one lease is, and where it should be. */
  #judge(id: string, desired: LeaseSource, to: { arriving: Held[]; leaving: Held[]; outcomes: LeaseOutcome[] }) {
    const lease = desired.leases.get(id);
    const held = this.#leases.get(id);
    if (held && lease) held.lease = lease;
    if (held && lease?.state === 'active') held.wasUp = true;
    if (!lease || lease.state === 'ending') {
      // What was never up has nothing; of all else that is looked at first.
      if (held && !lease) held.isTaken = !isOfOwnSlice(held.lease, desired);
      if (held && (held.phase !== 'refused' || held.wasUp)) {
        if (held.phase !== 'cleared') to.leaving.push(held);
      } else {
        if (held) this.#leases.drop(held);
        if (lease) to.outcomes.push({ lease: id, token: lease.token, state: 'empty' });
      }
      return;
    }
    if (held?.phase === 'refused' && held.refusal && !isLost(held)) {
      to.outcomes.push({ lease: id, token: lease.token, state: 'refused', ...held.refusal });
      return;
    }
    const holder = desired.holders.get(lease.holder);
    if (!holder) {
      // A change that tells about the holder touches its leases again.
      this.#host.log.warn({ lease: id, holder: lease.holder }, 'a lease of a holder that is not known yet');
      return;
    }
    const owner = ownerOf(holder, this.#host.cgroups);
    if (typeof owner === 'string') {
      if (held?.wasUp) {
        // Nobody can be let in any more; who was may finish.
        if (held.phase === 'refused') return;
        this.#formers.add(held);
        this.#leases.refuse(held, { errno: 'EPERM', detail: owner });
        return;
      }
      to.outcomes.push({ lease: id, token: lease.token, state: 'refused', errno: 'EPERM', detail: owner });
      return;
    }
    if (owner.kind === 'fish' && this.#fish.isFenced) this.#waiting.add(id);
    else if (!held) {
      this.#host.owners.note(lease.holder, owner);
      to.arriving.push(this.#leases.open(lease, owner, false));
    } else if (!isSameOwner(held.owner, owner)) {
      if (held.phase !== 'refused' && !isKnownAlike(held.owner, owner)) this.#formers.add(held);
      this.#host.owners.note(lease.holder, owner);
      this.#leases.changeOwner(held, owner);
      to.arriving.push(held);
    } else if (held.phase === 'refused') {
      this.#leases.retry(held);
      to.arriving.push(held);
    } else if (held.phase !== 'up') to.arriving.push(held);
    else if (lease.state === 'pending') to.outcomes.push({ lease: id, token: lease.token, state: 'active' });
  }
}

function missingCgroup(owner: Owner): string | null {
  const cgroup = cgroupOf(owner);
  return cgroup?.id === null ? `cgroup ${cgroup.path} is not there: the ports are shut until it is` : null;
}
