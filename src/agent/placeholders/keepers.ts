import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { err, ok, type Result } from '../../net/result.ts';
import type { Logger } from '../../ops/logger.ts';
import { KeeperLostError, type KeeperClient, type KeptRecord } from '../../keeper/client.ts';
import { kept_max, kinds, type KeeperStatus } from '../../keeper/protocol.ts';
import { Slots } from '../../keeper/slots.ts';
import { HostProblem } from '../host/host.ts';

/** A connection to a keeper, as far as it is used here. */
export type KeeperPort = Pick<
  KeeperClient,
  | 'hello'
  | 'identity'
  | 'problem'
  | 'put'
  | 'putMany'
  | 'drop'
  | 'list'
  | 'take'
  | 'takeOne'
  | 'stats'
  | 'isAlive'
  | 'end'
  | 'close'
>;

export type KeepersParts = Readonly<{
  /** The keeper with this number: one that is at work, or else one that is started now. The error is for people. */
  open(number: number): Promise<Result<KeeperPort, string>>;
  /** Numbers of keepers that may be at work. */
  found(): readonly number[];
  /** As `open`, but starts none. */
  connect(number: number): Result<KeeperPort, string>;
  /** Whether those that fish needs have to be there from the beginning; others are started as they are needed. */
  isNeeded: boolean;
  /** Descriptors that the first keepers must have room for: whatever there is one of, in the first, and fish's flows. */
  reserved: number;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Milliseconds, never backwards. */
  now(): number;
  /** Whether what is started here is gone as soon as this process is; then a keeper whose process can be seen from here is, too. */
  endsAll: boolean;
}>;

/** Where something is kept: keeper and slot in one number. */
export type Ref = number;
const refOf = (number: number, slot: number): Ref => number * kept_max + slot;
export const keeperOf = (ref: Ref): number => Math.floor(ref / kept_max);
const slotOf = (ref: Ref): number => ref % kept_max;

export type KeptBound = KeptRecord & Readonly<{ ref: Ref }>;

/** Room in the first keeper for descriptors of which there is one each. */
export const singletons_max = 256;
/** More would not be of use: the memory of the sockets is spent by then. */
export const keepers_max = 64;

/** Between two tries to have a lost keeper again; doubled each time. */
const retry_first_ms = 250;
const retry_max_ms = 15_000;

const drain_ms_max = 2_000;
const drain_step_ms = 20;

/**
 * `isBehind`: not everything that was sent is known to be done. `isNew`: it was lost, and what is in it now has not been
 * looked at.
 */
type Member = {
  readonly number: number;
  client: KeeperPort;
  slots: Slots;
  isBehind: boolean;
  isNew: boolean;
  /** Somebody else has waited for it in vain. */
  isDoubted: boolean;
  /** Why it could not be had again, how often in a row, and when that is tried next. */
  refused?: Readonly<{ problem: string; times: number; until: number }> | undefined;
};

export type KeeperState = Readonly<{
  number: number;
  implementation: KeeperStatus['implementation'];
  pid: number;
  /** Placeholders that the agent has put there. */
  placeholders: number;
  descriptors_max: number;
  problem: string | null;
}>;

/**
 * The keepers of this host, as many as the descriptors take: a process is allowed so many, and a placeholder is one. The
 * first also keeps what fish has. Everything here is for the agent's main thread, and of the agent's placeholders.
 *
 * A keeper that is lost is found by `lost`, and by whatever fails meanwhile; `mend` brings it back, with what is still in it.
 */
export class Keepers {
  readonly #parts: KeepersParts;
  readonly #members = new Map<number, Member>();
  /** The agent's own descriptors of which there is one each, by slot: they are put again into a keeper that is new. */
  readonly #singletons = new Map<number, Readonly<{ record: Uint8Array; fd: number }>>();
  readonly #listeners: ((number: number) => void)[] = [];
  #replaced = 0;

  constructor(parts: KeepersParts) {
    this.#parts = parts;
  }

  /** How often a keeper was lost while this agent lived. */
  get replaced(): number {
    return this.#replaced;
  }

  get status(): readonly KeeperState[] {
    return [...this.#members.values()].map(({ number, client, slots }) => ({
      number,
      implementation: client.hello.implementation,
      pid: client.hello.pid,
      placeholders: slots.used,
      descriptors_max: client.hello.descriptors_max,
      problem: client.problem ?? null,
    }));
  }

  /**
   * Finds the keepers that are at work, and starts those that are needed and are not; returns the placeholders that a former
   * agent left in them. The error is one line for people.
   */
  async begin(): Promise<Result<readonly KeptBound[], string>> {
    if (this.#parts.isNeeded) {
      for (let number = 0, left = Math.max(1, this.#parts.reserved); left > 0 && number < keepers_max; number++) {
        const opened = await this.#parts.open(number);
        if (!opened.ok) return opened;
        this.#join(number, opened.value);
        left -= opened.value.hello.descriptors_max;
      }
    }
    for (const number of this.#parts.found()) {
      if (this.#members.has(number) || number >= keepers_max) continue;
      const connected = this.#parts.connect(number);
      // What a dead one left behind is no keeper.
      if (connected.ok) this.#join(number, connected.value);
    }
    await Promise.all([...this.#members.values()].map(({ client }) => this.#waitForTheDead(client)));
    const { log } = this.#parts;
    for (const { number, implementation, pid } of this.status)
      log.info({ keeper: number, implementation, keeper_pid: pid }, 'descriptors are kept by a keeper');
    for (const { number, client } of this.#members.values())
      if (this.#parts.endsAll && client.identity !== null)
        log.warn(
          { keeper: number },
          'this keeper ends with the agent, because the container does: every flow of fish would break, and its ports be open ' +
            `to others. Run "fishery keeper --number ${number}" in a container of its own, with /run/fishery in both`,
        );
    try {
      return ok([...this.#members.keys()].flatMap((number) => this.list(number)));
    } catch (error) {
      if (error instanceof HostProblem) return err(error.message);
      throw error;
    }
  }

  /** The placeholders in one keeper; from now on their slots count as used. Throws HostProblem when it is lost. */
  list(number: number): readonly KeptBound[] {
    const member = this.#member(number);
    return orProblem(() => {
      const found = [...member.client.list(kinds.bound)].map((each) => ({ ...each, ref: refOf(number, each.slot) }));
      member.slots = new Slots(
        member.client.hello.slots_max,
        found.map(({ slot }) => slot),
      );
      member.isNew = false;
      return found;
    });
  }

  /**
   * Shows each placeholder of one keeper, with a descriptor that the caller closes, in no order that matters. Throws HostProblem when
   * it is lost.
   */
  show(number: number, each: (record: Uint8Array, fd: number, ref: Ref) => void): void {
    const { client } = this.#member(number);
    orProblem(() => {
      for (const { slot, record, fd } of client.take(kinds.bound)) each(record, fd, refOf(number, slot));
    });
  }

  /** The keepers that fish's flows go to, how many into each; and those that have some of a former agent's. */
  flowShares(): readonly Readonly<{ number: number; flows_max: number }>[] {
    return [...this.#members.values()]
      .toSorted((a, b) => a.number - b.number)
      .map((member) => ({
        number: member.number,
        flows_max: Math.max(0, this.#reservedIn(member) - (member.number === 0 ? singletons_max : 0)),
      }))
      .filter(
        ({ number, flows_max }) => flows_max > 0 || (this.#member(number).client.hello.kept[kinds.flow] ?? 0) > 0,
      );
  }

  /** Makes room for so many more placeholders, by starting keepers; the error says why there is none. */
  async reserve(count: number): Promise<Result<undefined, string>> {
    while (this.#room() < count) {
      const number = this.#nextNumber();
      if (number === undefined) return err(`${keepers_max} keepers are full: raise the limit of open descriptors`);
      const opened = await this.#parts.open(number);
      if (!opened.ok) throw new HostProblem(`there is no keeper for ${count} more placeholders: ${opened.error}`);
      this.#join(number, opened.value);
      // One that somebody has started since: whatever is in it, nobody here knows of it.
      this.drop(this.list(number).map(({ ref }) => ref));
    }
    return ok(undefined);
  }

  /**
   * Puts placeholders, for which there is room, and returns where each is. Their descriptors stay the caller's to close, and
   * may be closed at once. Throws HostProblem when a keeper is lost: those of these that did arrive are dropped by `mend`.
   */
  put(all: readonly Readonly<{ record: Uint8Array; fd: number }>[]): readonly Ref[] {
    const refs: Ref[] = [];
    for (const member of this.#members.values()) {
      const room = Math.min(this.#roomOf(member), all.length - refs.length);
      if (room <= 0) continue;
      const part = all.slice(refs.length, refs.length + room).flatMap(({ record, fd }) => {
        const slot = member.slots.take();
        return slot === undefined ? [] : [{ slot, record, fd }];
      });
      member.isBehind = true;
      if (member.client.putMany(kinds.bound, part) < 0) {
        for (const { slot } of part) member.slots.give(slot);
        this.drop(refs);
        throw new HostProblem(member.client.problem ?? 'a keeper is lost');
      }
      refs.push(...part.map(({ slot }) => refOf(member.number, slot)));
    }
    if (refs.length < all.length) throw new Error(`no room for ${all.length - refs.length} placeholders`);
    return refs;
  }

  /** Closes placeholders. What a lost keeper had is forgotten. */
  drop(refs: readonly Ref[]): void {
    for (const [number, members] of Map.groupBy(refs, keeperOf)) {
      const member = this.#member(number);
      const slots = members.map(slotOf);
      for (const slot of slots) member.slots.give(slot);
      member.isBehind = true;
      member.client.drop(kinds.bound, slots);
    }
  }

  /** Waits until everything that was put is there, and everything that was dropped is closed. Throws HostProblem. */
  settle(): void {
    for (const member of this.#members.values()) {
      if (!member.isBehind) continue;
      orProblem(() => member.client.stats());
      member.isBehind = false;
    }
  }

  /** Keeps one of the agent's own descriptors, which stays open here until `release`. Throws HostProblem. */
  keep(slot: number, record: Uint8Array, fd: number): void {
    this.#singletons.set(slot, { record, fd });
    const { client } = this.#member(0);
    if (client.put(kinds.singleton, slot, record, fd) < 0) throw new HostProblem(client.problem ?? 'a keeper is lost');
  }

  /** The descriptor is about to be closed here; the keeper's copy stays. */
  release(slot: number): void {
    this.#singletons.delete(slot);
  }

  /** Closes the keeper's copy, too. */
  remove(slot: number): void {
    this.#singletons.delete(slot);
    this.#member(0).client.drop(kinds.singleton, [slot]);
  }

  /** What a former agent keeps in a slot of the singletons: as if it had been put here, by `keep`. Throws HostProblem. */
  takeKept(slot: number): Readonly<{ record: Uint8Array; fd: number }> | undefined {
    const taken = orProblem(() => this.#member(0).client.takeOne(kinds.singleton, slot));
    if (taken) this.#singletons.set(slot, taken);
    return taken;
  }

  /** Calls whenever a keeper was lost and is there again, perhaps with nothing in it. */
  onReplaced(listener: (number: number) => void): void {
    this.#listeners.push(listener);
  }

  /** Whether a keeper is lost, as far as can be seen without asking. */
  get hasLost(): boolean {
    return [...this.#members.values()].some(({ client }) => !client.isAlive());
  }

  /** Fish has trouble, and it may be a keeper's: the next `mend` asks each whether it answers. */
  doubt(): void {
    for (const member of this.#members.values()) member.isDoubted = true;
  }

  /**
   * Brings lost keepers back. Of those that are `mended`, until `list` is asked about them, nobody knows what is in them;
   * `problem` says why another cannot be had.
   */
  async mend(): Promise<Readonly<{ mended: readonly number[]; problem: string | undefined }>> {
    let problem: string | undefined;
    for (const member of this.#members.values()) {
      await this.#askIfDoubted(member);
      if (member.client.isAlive()) continue;
      const lost = member.client;
      problem = (await this.#openAgain(member)) ?? problem;
      if (member.client === lost) continue;
      if (member.number === 0) this.#keepAgain(member);
      // One that only let us wait for too long has what it had; what was on its way then is found by `list`.
      if (lost.identity !== null && lost.identity === member.client.identity) continue;
      this.#replaced++;
      for (const listener of this.#listeners) listener(member.number);
    }
    const mended = [...this.#members.values()].filter(({ isNew, client }) => isNew && client.problem === undefined);
    return { mended: mended.map(({ number }) => number), problem };
  }

  /** One that does not answer is lost from then on. */
  async #askIfDoubted(member: Member): Promise<void> {
    if (!member.isDoubted) return;
    member.isDoubted = false;
    // Each may take a while: keepalives come in between.
    await setImmediate();
    try {
      member.client.stats();
    } catch (error) {
      if (!(error instanceof KeeperLostError)) throw error;
    }
  }

  /** Connects to a lost keeper, or to the one that is started in its place; returns why there is none. */
  async #openAgain(member: Member): Promise<string | undefined> {
    const { log, now, open } = this.#parts;
    const { refused } = member;
    if (refused && now() < refused.until) return refused.problem;
    const opened = await open(member.number);
    if (!opened.ok) {
      const times = (refused?.times ?? 0) + 1;
      const until = now() + Math.min(retry_max_ms, retry_first_ms * 2 ** Math.min(times - 1, 10));
      member.refused = { problem: opened.error, times, until };
      return opened.error;
    }
    log.warn({ keeper: member.number }, `${member.client.problem ?? 'a keeper was lost'}; it is there again`);
    Object.assign(member, {
      ...{ client: opened.value, slots: new Slots(opened.value.hello.slots_max), isNew: true },
      refused: undefined,
    });
    return undefined;
  }

  /** Everything in them stays, for a successor; one that never had anything is ended. */
  leave(): void {
    for (const { client } of this.#members.values())
      if (isUnused(client)) client.end();
      else client.close();
    this.#members.clear();
  }

  /** Ends them, with everything that is in them. */
  end(): void {
    for (const { client } of this.#members.values()) client.end();
    this.#members.clear();
  }

  /** If it is lost at once, the next `mend` does it. */
  #keepAgain({ client }: Member): void {
    for (const [slot, { record, fd }] of this.#singletons) client.put(kinds.singleton, slot, record, fd);
  }

  /** What a killed agent had sent may still be on its way in; its connection ends when it has arrived. */
  async #waitForTheDead(client: KeeperPort): Promise<void> {
    for (let waited_ms = 0; waited_ms < drain_ms_max; waited_ms += drain_step_ms) {
      try {
        if (client.stats().connections === 1) return;
      } catch (error) {
        // Found, and said, by what comes next.
        if (error instanceof KeeperLostError) return;
        throw error;
      }
      await sleep(drain_step_ms);
    }
  }

  #join(number: number, client: KeeperPort): void {
    this.#members.set(number, {
      number,
      client,
      slots: new Slots(client.hello.slots_max),
      ...{ isBehind: false, isNew: false, isDoubted: false },
    });
  }

  #member(number: number): Member {
    const member = this.#members.get(number);
    if (!member) throw new Error(`there is no keeper ${number}`);
    return member;
  }

  #room(): number {
    return [...this.#members.values()].reduce((sum, member) => sum + Math.max(0, this.#roomOf(member)), 0);
  }

  /** For more placeholders of the agent. */
  #roomOf(member: Member): number {
    return member.client.hello.descriptors_max - this.#reservedIn(member) - member.slots.used;
  }

  /** How much of what is reserved is in this keeper: it fills them in the order of their numbers. */
  #reservedIn({ number, client }: Member): number {
    const before = [...this.#members.values()].filter((member) => member.number < number);
    const left = before.reduce((sum, member) => sum - member.client.hello.descriptors_max, this.#parts.reserved);
    return Math.max(0, Math.min(left, client.hello.descriptors_max));
  }

  #nextNumber(): number | undefined {
    for (let number = 0; number < keepers_max; number++) if (!this.#members.has(number)) return number;
    return undefined;
  }
}

function isUnused(client: KeeperPort): boolean {
  try {
    return client.stats().puts === 0;
  } catch (error) {
    if (error instanceof KeeperLostError) return false;
    throw error;
  }
}

function orProblem<T>(ask: () => T): T {
  try {
    return ask();
  } catch (error) {
    if (error instanceof KeeperLostError) throw new HostProblem(error.message, { cause: error });
    throw error;
  }
}
