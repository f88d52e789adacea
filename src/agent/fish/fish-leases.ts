import type { Logger } from '../../ops/logger.ts';
import { isFisheryError } from '../../sdk/index.ts';
import type { Lease } from '../../wire/leases.ts';
import type { ElasticLeases, GrowthStatus } from '../leases/elastic-leases.ts';
import { answerOf, answers, isLost, withoutGrowth, type Answer, type FishClaim } from './fish-claims.ts';
import type { LeasePlaces } from '../leases/lease-places.ts';
import type { LeaseSource } from '../leases/lease-source.ts';
import { Bell, isOver } from '../start/waiting.ts';

export type FishLeaseParts = Readonly<{
  /** Where they are had. */
  places: LeasePlaces;
  holder: string;
  /** Who it is for, as the log calls it. */
  who: string;
  claims: readonly FishClaim[];
  /** Whether the host would not have a lease that the server counts as active: nobody can use it. */
  isRefused(lease: string): boolean;
  /** What claims have on top of their first lease. */
  growth: Pick<ElasticLeases, 'isNeeded' | 'adopt' | 'forget' | 'look' | 'status'>;
  /** Waits before attempt number `attempt` (1 is the first repetition); rejects when the signal aborts. */
  pause(attempt: number, signal: AbortSignal): Promise<void>;
  log: Pick<Logger, 'info' | 'warn'>;
}>;

/** How often it is looked whether leases should be more, or fewer. */
const grow_every_ms = 500;

/** How the standing claims of a holder on this host are. */
export type ClaimsStatus = Readonly<{
  session: string | null;
  claims: number;
  answered: number;
  problem: string | null;
  /** Of the claims that may grow. */
  growth: readonly GrowthStatus[];
}>;

/**
 * The leases that the settings claim for this machine's fish (or its terminator). Each claim has at most one lease, and what
 * `growth` puts on top of that; one that is lost (refused by the host, revoked, session over) is claimed again. Sessions that a
 * former agent of this machine left alive are taken over, with their leases: same holder, so no rest is needed.
 */
export class FishLeases {
  readonly #parts: FishLeaseParts;
  #answers: (Answer | undefined)[];
  readonly #bell = new Bell();
  #attempt = 0;
  /** Grants that the server or the host would not give. */
  refused = 0;
  #lastProblem: string | null = null;

  constructor(parts: FishLeaseParts) {
    this.#parts = parts;
    this.#answers = parts.claims.map(() => undefined);
    parts.places.onForgotten = (isIts) => {
      parts.growth.forget(isIts);
      this.#answers = this.#answers.map((answer) => (answer && isIts(answer.lease) ? undefined : answer));
      this.look();
    };
  }

  status(): ClaimsStatus {
    const answered = this.#answers.filter((each) => each !== undefined).length;
    return {
      session: this.#parts.places.session,
      claims: this.#answers.length,
      answered,
      problem: this.#lastProblem,
      growth: this.#parts.growth.status(),
    };
  }

  /** Something happened to leases: a claim may have lost its own. */
  look(): void {
    this.#bell.ring();
  }

  /** Runs until `signal` aborts; ends nothing then. */
  async run(desired: () => LeaseSource, signal: AbortSignal): Promise<void> {
    while (!isOver(signal)) {
      try {
        await this.#takeOver(desired(), signal);
        await this.#claim(signal);
        this.#lastProblem = null;
        while (!this.#hasLost(desired())) {
          // Only leases that are in use prove that claiming them anew helps, should they be lost later.
          if (this.#allActive(desired())) this.#attempt = 0;
          await this.#bell.heard(signal, this.#parts.growth.isNeeded ? grow_every_ms : Infinity);
          if (isOver(signal)) return;
          await this.#grow(desired(), signal);
        }
        await this.#giveBackRefused(desired(), signal);
        this.#lose(desired());
        // Each refused lease blocks its ports: whatever is wrong here must not eat the slice at the speed of the network.
        await this.#parts.pause(++this.#attempt, signal).catch(() => {});
      } catch (error) {
        if (isOver(signal)) return;
        this.#lastProblem = error instanceof Error ? error.message : String(error);
        const { claims, answered } = this.status();
        this.#parts.log.warn({ claims, answered }, `${this.#parts.who} has not all its leases: ${this.#lastProblem}`);
        this.refused++;
        await this.#parts.pause(++this.#attempt, signal).catch(() => {});
      }
    }
  }

  async #grow(desired: LeaseSource, signal: AbortSignal): Promise<void> {
    const { growth } = this.#parts;
    if (growth.isNeeded) await growth.look({ bases: this.#answers, desired, signal });
  }

  /** Ends the sessions: all leases go, and rest once the host has proven them unused. */
  async end(): Promise<void> {
    await this.#parts.places.end();
  }

  async #takeOver(desired: LeaseSource, signal: AbortSignal): Promise<void> {
    const { places, who, log } = this.#parts;
    const left = this.#leftAlive(desired);
    const taken = await places.takeOver(left.keys(), signal);
    if (taken.size === 0) return;
    const leases = [...taken].flatMap((session) => left.get(session) ?? []);
    log.info({ sessions: [...taken], leases: leases.length }, `${who} takes over its leases`);
    this.#match(leases);
    await this.#releaseOthers(leases);
  }

  /** Live leases of this holder by session: what a former agent left. */
  #leftAlive(desired: LeaseSource): ReadonlyMap<string, readonly Lease[]> {
    const live = [...desired.leases.values()].filter(
      (lease) => lease.holder === this.#parts.holder && lease.session !== null && lease.state !== 'ending',
    );
    return Map.groupBy(live, (lease) => lease.session ?? '');
  }

  /** To claims that have none. */
  #match(leases: readonly Lease[]): void {
    const left = new Set(leases);
    this.#answers = this.#parts.claims.map((claim, index) => {
      const answer = this.#answers[index];
      if (answer) return answer;
      const found = [...left].find((lease) => answers(lease, claim));
      if (!found) return undefined;
      left.delete(found);
      return answerOf(found);
    });
  }

  /** What the settings do not claim any more, nor was added to what they claim. */
  async #releaseOthers(leases: readonly Lease[]): Promise<void> {
    const { growth } = this.#parts;
    const wanted = new Set(this.#answers.map((answer) => answer?.lease));
    for (const lease of growth.adopt(leases.filter(({ id }) => !wanted.has(id))))
      await this.#parts.places.release(lease);
  }

  #hasLost(desired: LeaseSource): boolean {
    return this.#answers.some((answer) => !answer || this.#isLost(answer, desired));
  }

  #allActive(desired: LeaseSource): boolean {
    return this.#answers.every((answer) => answer && desired.leases.get(answer.lease)?.state === 'active');
  }

  #isLost(answer: Answer, desired: LeaseSource): boolean {
    return isLost(answer, desired, (lease) => this.#parts.isRefused(lease));
  }

  #lose(desired: LeaseSource): void {
    this.#answers = this.#answers.map((answer) => (answer && !this.#isLost(answer, desired) ? answer : undefined));
  }

  async #giveBackRefused(desired: LeaseSource, signal: AbortSignal): Promise<void> {
    const { places, isRefused } = this.#parts;
    for (const answer of this.#answers)
      if (answer && isRefused(answer.lease) && desired.leases.get(answer.lease)?.state === 'active')
        await places.release({ id: answer.lease, token: answer.token }, signal);
  }

  /** Asks for the claims without a lease, one by one: what one claim cannot have should not keep the others waiting. */
  async #claim(signal: AbortSignal): Promise<void> {
    const { places, claims, who, log } = this.#parts;
    let problem: unknown;
    for (const [index, claim] of claims.entries()) {
      if (this.#answers[index]) continue;
      try {
        const lease = await places.grant(withoutGrowth(claim), signal);
        this.#answers[index] = answerOf(lease);
        log.info({ lease: lease.id, address: lease.address, ports: lease.ports }, `${who} was granted a lease`);
      } catch (error) {
        signal.throwIfAborted();
        problem ??= error;
        if (isFisheryError(error) && error.status === null) break;
      }
    }
    if (problem !== undefined)
      throw problem instanceof Error ? problem : new Error('a claim failed', { cause: problem });
  }
}
