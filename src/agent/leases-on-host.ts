import { setImmediate } from 'node:timers/promises';
import { familyOf, type Address } from '../net/address.ts';
import { formatPorts } from '../net/ports.ts';
import { toPlainText } from '../net/text.ts';
import type { LeasedBlock } from '../fish/blocks.ts';
import type { Logger } from '../ops/logger.ts';
import type { Lease } from '../wire/leases.ts';
import type { Holder } from '../wire/machines.ts';
import type { DesiredMachine } from './desired.ts';
import type { Placeholders, Refusal } from './placeholders.ts';
import { conflictsOf, describeUser, type SocketTable } from './port-users.ts';
import { ProxyEndings } from './proxy-endings.ts';
import {
  ElementCounts,
  elementsOf,
  parseSetName,
  type Block,
  type Element,
  type ElementsBySet,
  type Owner,
  type SetClass,
} from './sets.ts';

export type FishRefusal = Readonly<{ lease: string; reason: string }>;

/** What the life of a lease asks of the rest of the agent. */
export type LeaseHost = Readonly<{
  /** One transaction; what exists, or is gone, is no error. Makes the sets first that the table still lacks. */
  changeElements(add: readonly Element[], remove: readonly Element[]): Promise<void>;
  placeholders: Pick<Placeholders, 'hold' | 'close'>;
  sockets: SocketTable;
  /** Tells fish all its blocks; flows of blocks that are gone have ended when it resolves. Throws when fish is away. */
  setFishBlocks(blocks: readonly LeasedBlock[]): Promise<readonly FishRefusal[]>;
  /** Whether a socket's mark says that it is one of fish's placeholders. */
  isOurMark(mark: number): boolean;
  log: Pick<Logger, 'warn'>;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

/** What is to be told to the server about a lease. */
export type LeaseOutcome = Readonly<{ lease: string; token: string }> &
  (Readonly<{ state: 'active' | 'empty' | 'unit_gone' }> | (Readonly<{ state: 'refused' }> & Refusal));

/**
 * `opening`: its elements are counted, nothing else is sure. `up`: everything is in place. `clearing`: it ends, and
 * somebody still uses it. `cleared`: nobody does, but the kernel has not confirmed yet that its elements are gone.
 * `refused`: the kernel or fish would not have it, and nothing of it is left.
 */
export type Phase = 'opening' | 'up' | 'clearing' | 'cleared' | 'refused';

type Held = {
  lease: Lease;
  readonly block: Block;
  owner: Owner;
  elements: readonly Element[];
  phase: Phase;
  since: number;
  /** It was up before this agent started: its own sockets may be there already. */
  readonly adopted: boolean;
  refusal: Refusal | null;
  /** Fish has confirmed that it uses it no more. */
  isFree: boolean;
};

export type LeaseStatus = Readonly<{
  lease: string;
  holder: string;
  block: string;
  phase: Phase;
  for_s: number;
  detail: string | null;
}>;

/**
 * The life of every lease on this host: pending → elements → placeholders → fish's block → reported active; ending →
 * flows and placeholders closed, or the proxy's sockets watched until none is left → elements gone → reported empty.
 *
 * Nothing is reported before it is true, and a lease that the kernel refuses leaves nothing behind.
 */
export class LeasesOnHost {
  readonly #host: LeaseHost;
  readonly #held = new Map<string, Held>();
  /** Of those: fish's, and those that end. Both are few beside a proxy's hundred thousand. */
  readonly #fish = new Set<Held>();
  readonly #ending = new Set<Held>();
  readonly #touched = new Set<string>();
  readonly #counts = new ElementCounts();
  readonly #endings: ProxyEndings;
  /** Nobody needs them any more, and the kernel has not confirmed that they are gone. */
  readonly #leftOver: Element[] = [];
  #fishIsBehind = false;
  #fishProblem: Error | undefined;

  constructor(host: LeaseHost) {
    this.#host = host;
    this.#endings = new ProxyEndings(
      host.sockets,
      (mark) => host.isOurMark(mark),
      () => host.now(),
    );
  }

  /** These leases are to be looked at in the next `work`. */
  touch(leases: Iterable<string>): void {
    for (const lease of leases) this.#touched.add(lease);
  }

  /** Everything that should be in the table now. */
  elements(): ElementsBySet {
    return this.#counts.bySet();
  }

  /**
   * The sets that those elements are in, and those that they go to when their lease ends: that must not wait for the
   * table to be loaded anew.
   */
  classes(): readonly SetClass[] {
    return [...this.#counts.bySet().keys()].flatMap((name): readonly SetClass[] => {
      const found = parseSetName(name);
      if (!found) return [];
      return found.role === 'own_uid' ? [found, { ...found, role: 'closing' }] : [found];
    });
  }

  /**
   * Counts in the leases that were up before this agent started, so that reconciling the table keeps their elements and
   * no packet of a living connection is dropped meanwhile. The rest follows in `work`.
   */
  adopt(desired: DesiredMachine): void {
    for (const lease of desired.leases.values()) {
      const owner = ownerOf(desired.holders.get(lease.holder));
      if (lease.state === 'pending' || !owner || this.#held.has(lease.id)) continue;
      // Fish has just started: it uses nothing of what ends.
      if (lease.state === 'ending' && owner.kind === 'fish') continue;
      this.#count(lease, owner, true);
    }
    this.touch(desired.leases.keys());
  }

  /** Fish is new and knows no blocks: the next `work` tells it. */
  fishIsNew(): void {
    this.#fishIsBehind = true;
  }

  get hasWork(): boolean {
    return this.#touched.size > 0 || this.#leftOver.length > 0 || this.#fishIsBehind;
  }

  /** When the sockets of a lease that ends should be looked at again; undefined when none is waited for. */
  nextLookInMs(): number | undefined {
    return this.#endings.nextLookInMs();
  }

  /** Whether anything is left of the leases that `which` names. */
  holds(which: (lease: Lease, owner: Owner) => boolean): boolean {
    return [...this.#held.values()].some(({ lease, owner, phase }) => phase !== 'refused' && which(lease, owner));
  }

  phaseOf(lease: string): Phase | undefined {
    return this.#held.get(lease)?.phase;
  }

  /**
   * Brings the touched leases to where they should be and returns what the server has to hear. When fish is away its own
   * leases wait, and `problem` says so. Any other failure is thrown after everything touched was marked again: the next
   * call goes on from there.
   */
  async work(
    desired: DesiredMachine,
  ): Promise<Readonly<{ outcomes: readonly LeaseOutcome[]; problem: Error | undefined }>> {
    const touched = [...this.#touched];
    this.#touched.clear();
    this.#fishProblem = undefined;
    try {
      const outcomes: LeaseOutcome[] = [];
      const arriving: Held[] = [];
      const leaving: Held[] = [];
      for (const id of touched) this.#judge(id, desired, { arriving, leaving, outcomes });
      await this.#leave(leaving, outcomes);
      await this.#arrive(arriving, outcomes);
      await this.#finishEndings(desired, outcomes);
      return { outcomes, problem: this.#fishProblem };
    } catch (error) {
      this.touch(touched);
      throw error;
    }
  }

  status(): readonly LeaseStatus[] {
    const now = this.#host.now();
    return [...this.#held.values()].map(({ lease, block, phase, since, refusal }) => ({
      lease: lease.id,
      holder: lease.holder,
      block: `${block.address} ${block.protocol} ${formatPorts(block.ports)}`,
      phase,
      for_s: Math.round((now - since) / 1_000),
      detail: refusal ? `${refusal.errno}: ${refusal.detail}` : this.#endings.waitsFor(lease.id),
    }));
  }

  /** Where one lease is, and where it should be. */
  #judge(id: string, desired: DesiredMachine, to: { arriving: Held[]; leaving: Held[]; outcomes: LeaseOutcome[] }) {
    const lease = desired.leases.get(id);
    const held = this.#held.get(id);
    if (held && lease) held.lease = lease;
    if (!lease || lease.state === 'ending') {
      if (held && held.phase !== 'refused') {
        if (held.phase !== 'cleared') to.leaving.push(held);
      } else {
        if (held) this.#drop(held);
        if (lease) to.outcomes.push({ lease: id, token: lease.token, state: 'empty' });
      }
      return;
    }
    if (held?.phase === 'refused' && held.refusal) {
      to.outcomes.push({ lease: id, token: lease.token, state: 'refused', ...held.refusal });
      return;
    }
    const holder = desired.holders.get(lease.holder);
    const owner = ownerOf(holder);
    if (!owner) {
      if (holder) this.#refuseUnheld(lease, to.outcomes);
      // A change that tells about the holder touches its leases again.
      else this.#host.log.warn({ lease: id, holder: lease.holder }, 'a lease of a holder that is not known yet');
      return;
    }
    if (!held) to.arriving.push(this.#count(lease, owner, false));
    else if (!isSame(held.owner, owner)) {
      this.#recount(held, owner);
      to.arriving.push(held);
    } else if (held.phase !== 'up') to.arriving.push(held);
    else if (lease.state === 'pending') to.outcomes.push({ lease: id, token: lease.token, state: 'active' });
  }

  async #arrive(arriving: readonly Held[], outcomes: LeaseOutcome[]): Promise<void> {
    await this.#change(arriving.flatMap((held) => held.elements));
    for (const [index, held] of arriving.entries()) {
      const refusal = this.#claim(held);
      if (refusal) this.#undo(held, refusal, outcomes);
      // A block of thousands of ports takes milliseconds; the keepalive must not wait for all of them.
      if (index % 16 === 15) await setImmediate();
    }
    const fishes = arriving.filter(({ owner, phase }) => owner.kind === 'fish' && phase !== 'refused');
    const isTold = this.#fishIsBehind || fishes.length > 0 ? await this.#tellFish(new Set(arriving), outcomes) : true;
    if (!isTold) this.touch(fishes.map(({ lease }) => lease.id));
    for (const held of arriving) {
      if (held.phase === 'refused' || (held.owner.kind === 'fish' && !isTold)) continue;
      this.#enter(held, 'up');
      outcomes.push({ lease: held.lease.id, token: held.lease.token, state: 'active' });
    }
    await this.#change([]);
  }

  /** What the kernel has to grant beyond elements: placeholders for fish, and nobody else's sockets for a proxy. */
  #claim({ lease, block, owner, adopted }: Held): Refusal | undefined {
    if (owner.kind === 'fish') {
      if (familyOf(block.address) === 6)
        return { errno: 'EAFNOSUPPORT', detail: 'fish translates IPv4 only; claim it with family 4' };
      return this.#host.placeholders.hold(lease.id, block);
    }
    if (block.mode === 'shared' || adopted) return undefined;
    const strangers = conflictsOf(this.#host.sockets, block).filter(
      // Without a process it is closing and goes by itself.
      (user) => user.uid !== owner.uid && user.inode !== 0,
    );
    const [first] = strangers;
    if (!first) return undefined;
    const more = strangers.length > 1 ? ` and ${strangers.length - 1} more` : '';
    const detail = `port ${first.port} has ${describeUser(this.#host.sockets, first)}${more}`;
    return { errno: 'EADDRINUSE', detail };
  }

  async #leave(leaving: readonly Held[], outcomes: LeaseOutcome[]): Promise<void> {
    const fishes = leaving.filter(({ owner }) => owner.kind === 'fish');
    const proxies = leaving.filter(({ owner }) => owner.kind === 'proxy');
    for (const held of leaving) if (held.phase !== 'clearing') this.#enter(held, 'clearing');
    // Nothing new begins from here on; only then does it mean anything that no socket is left.
    for (const held of proxies) this.#exchange(held, elementsOf(held.block, held.owner, true));
    await this.#change(proxies.flatMap((held) => held.elements));
    const isTold = fishes.length > 0 && (await this.#tellFish(new Set(), outcomes));
    for (const held of fishes) {
      const { id } = held.lease;
      if (isTold) this.#host.placeholders.close(id);
      else this.touch([id]);
      held.isFree = isTold;
    }
    for (const { lease, block, owner } of proxies) {
      if (owner.kind !== 'proxy') continue;
      // Only leases that go on have these.
      const live = elementsOf(block, owner);
      const isCovered = () => live.every((element) => this.#counts.countOf(element) > 0);
      this.#endings.watch({ lease: lease.id, block, uid: owner.uid, isCovered });
    }
  }

  /** Leases that end and that nobody uses any more: fish's, and the proxies' whose last socket is gone. */
  async #finishEndings(desired: DesiredMachine, outcomes: LeaseOutcome[]): Promise<void> {
    const unused = new Set(this.#endings.look());
    for (const held of this.#ending) {
      const isUnused = held.owner.kind === 'fish' ? held.isFree : unused.has(held.lease.id);
      if (held.phase === 'cleared' || !isUnused) continue;
      this.#enter(held, 'cleared');
      this.#discount(held);
    }
    await this.#change([]);
    for (const held of this.#ending) {
      const { id: lease, token } = held.lease;
      if (held.phase !== 'cleared') continue;
      this.#drop(held);
      if (desired.leases.has(lease)) outcomes.push({ lease, token, state: 'empty' });
    }
  }

  /** All blocks that fish may use: those that are up, and those that are on their way there. */
  async #tellFish(arriving: ReadonlySet<Held>, outcomes: LeaseOutcome[]): Promise<boolean> {
    const { placeholders } = this.#host;
    const blocks = [...this.#fish].flatMap((held) =>
      held.phase === 'up' || (arriving.has(held) && held.phase !== 'refused')
        ? [fishBlock(held.lease, held.block)]
        : [],
    );
    let refusals: readonly FishRefusal[];
    try {
      refusals = await this.#host.setFishBlocks(blocks);
    } catch (error) {
      this.#fishProblem = error instanceof Error ? error : new Error('fish failed', { cause: error });
      return false;
    }
    this.#fishIsBehind = false;
    for (const { lease, reason } of refusals) {
      const held = this.#held.get(lease);
      if (!held) continue;
      placeholders.close(lease);
      this.#undo(held, { errno: 'EINVAL', detail: `fish: ${reason}` }, outcomes);
    }
    return true;
  }

  #count(lease: Lease, owner: Owner, adopted: boolean): Held {
    const block = blockOf(lease);
    const elements = elementsOf(block, owner, lease.state === 'ending');
    this.#counts.take(elements);
    const since = this.#host.now();
    const held: Held = {
      lease,
      block,
      owner,
      elements,
      phase: 'opening',
      since,
      adopted,
      refusal: null,
      isFree: false,
    };
    this.#held.set(lease.id, held);
    if (owner.kind === 'fish') this.#fish.add(held);
    return held;
  }

  /** The holder has another user id now. */
  #recount(held: Held, owner: Owner): void {
    this.#exchange(held, elementsOf(held.block, owner));
    held.owner = owner;
  }

  /** What both have in common stays in the kernel all the while. */
  #exchange(held: Held, elements: readonly Element[]): void {
    this.#counts.take(elements);
    this.#discount(held);
    held.elements = elements;
  }

  #discount(held: Held): void {
    this.#leftOver.push(...this.#counts.give(held.elements));
    held.elements = [];
  }

  #undo(held: Held, { errno, detail: said }: Refusal, outcomes: LeaseOutcome[]): void {
    // Processes name themselves as they like; the server takes a report with plain text only.
    const refusal: Refusal = { errno, detail: toPlainText(said, detail_chars_max) };
    this.#enter(held, 'refused');
    this.#discount(held);
    held.refusal = refusal;
    const { id: lease, token, holder } = held.lease;
    outcomes.push({ lease, token, state: 'refused', ...refusal });
    this.#host.log.warn({ lease, holder, ...refusal }, 'the host refused a lease');
  }

  #refuseUnheld(lease: Lease, outcomes: LeaseOutcome[]): void {
    const detail = `${lease.holder} is a proxy without a user id: the guard cannot tell its sockets`;
    outcomes.push({ lease: lease.id, token: lease.token, state: 'refused', errno: 'EPERM', detail });
  }

  /** Adds, and takes away what nobody needs by now. What failed to go is tried again; what came back stays. */
  async #change(add: readonly Element[]): Promise<void> {
    const gone = this.#leftOver.filter((element) => this.#counts.countOf(element) === 0);
    if (add.length > 0 || gone.length > 0) await this.#host.changeElements(add, gone);
    this.#leftOver.length = 0;
  }

  #enter(held: Held, phase: Phase): void {
    if (phase === 'clearing') this.#ending.add(held);
    held.phase = phase;
    held.since = this.#host.now();
  }

  #drop(held: Held): void {
    this.#held.delete(held.lease.id);
    this.#fish.delete(held);
    this.#ending.delete(held);
  }
}

/** As the server takes it. */
const detail_chars_max = 500;

const blockOf = (lease: Lease): Block => ({
  // Canonical text from the server, checked there when the pool was made.
  address: lease.address as Address,
  protocol: lease.protocol,
  ports: lease.ports,
  mode: lease.mode,
});

const fishBlock = (lease: Lease, block: Block): LeasedBlock => ({ ...block, lease: lease.id, binding: lease.binding });

/** undefined for a holder that the guard could not tell from others. */
function ownerOf(holder: Holder | undefined): Owner | undefined {
  if (!holder) return undefined;
  if (holder.kind === 'fish') return { kind: 'fish' };
  return holder.uid === null ? undefined : { kind: 'proxy', uid: holder.uid };
}

const isSame = (a: Owner, b: Owner): boolean =>
  a.kind === b.kind && (a.kind !== 'proxy' || b.kind !== 'proxy' || a.uid === b.uid);
