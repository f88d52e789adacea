import type { Logger } from '../ops/logger.ts';
import { isFisheryError, type FisheryClient, type SessionLoss } from '../sdk/index.ts';
import type { Lease } from '../wire/leases.ts';
import type { Session } from '../wire/sessions.ts';
import type { DesiredMachine } from './desired.ts';
import type { ElasticLeases, GrowthStatus } from './elastic-leases.ts';
import { answerOf, answers, isLost, withoutGrowth, type Answer, type FishClaim } from './fish-claims.ts';
import { Bell, isOver } from './waiting.ts';

/** What fish's leases need of the server, in the SDK's words. */
export type FishLeaseClient = Readonly<{
  sessions: Pick<FisheryClient['sessions'], 'open' | 'keepalive' | 'end'>;
  leases: Pick<FisheryClient['leases'], 'grant' | 'release'>;
}>;

export type FishLeaseParts = Readonly<{
  client: FishLeaseClient;
  machine: string;
  holder: string;
  /** Who it is for, as the log calls it. */
  who: string;
  ttl_s: number;
  claims: readonly FishClaim[];
  /** Keeps a session alive in the background until the signal aborts; `onLost` when it is over. */
  keepAlive(session: Session, signal: AbortSignal, onLost: (loss: SessionLoss) => void): void;
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

/**
 * The session of this machine's fish (or its terminator) and the leases that the settings claim for it. Each claim has at most
 * one lease, and what `growth` puts on top of that; one that is lost (refused by the host, revoked, session over) is claimed
 * again. A session that a former agent of this machine
 * left alive is taken over, with its leases: same holder, so no rest is needed.
 */
export class FishLeases {
  readonly #parts: FishLeaseParts;
  #session: string | undefined;
  #answers: (Answer | undefined)[];
  #keeping = new AbortController();
  readonly #bell = new Bell();
  #attempt = 0;
  /** Grants that the server or the host would not give. */
  refused = 0;
  #lastProblem: string | null = null;

  constructor(parts: FishLeaseParts) {
    this.#parts = parts;
    this.#answers = parts.claims.map(() => undefined);
  }

  status(): Readonly<{
    session: string | null;
    claims: number;
    answered: number;
    problem: string | null;
    growth: readonly GrowthStatus[];
  }> {
    const answered = this.#answers.filter((each) => each !== undefined).length;
    return {
      session: this.#session ?? null,
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
  async run(desired: () => DesiredMachine, signal: AbortSignal): Promise<void> {
    while (!isOver(signal)) {
      try {
        if (this.#session === undefined) await this.#begin(desired(), signal);
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
        // A new session tells what is wrong with this one.
        if (isFisheryError(error, 'session_ended') || isFisheryError(error, 'session_not_found')) this.#forgetSession();
        await this.#parts.pause(++this.#attempt, signal).catch(() => {});
      }
    }
  }

  async #grow(desired: DesiredMachine, signal: AbortSignal): Promise<void> {
    const { growth } = this.#parts;
    const session = this.#session;
    if (growth.isNeeded && session !== undefined) await growth.look({ session, bases: this.#answers, desired, signal });
  }

  /** Ends the session: all its leases go, and rest once the host has proven them unused. */
  async end(): Promise<void> {
    const session = this.#session;
    this.#keeping.abort();
    if (session === undefined) return;
    this.#session = undefined;
    await this.#parts.client.sessions.end(session);
  }

  async #begin(desired: DesiredMachine, signal: AbortSignal): Promise<void> {
    const { client, machine, holder, who, ttl_s, log } = this.#parts;
    for (const [session, leases] of this.#leftAlive(desired)) {
      try {
        const kept = await client.sessions.keepalive(session, { signal });
        this.#answers = this.#match(leases);
        log.info({ session, leases: leases.length }, `${who} takes over its session and leases`);
        this.#use(kept);
        await this.#releaseOthers(leases);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!isFisheryError(error) || error.retryable) throw error;
      }
    }
    const opened = await client.sessions.open({ machine, holder, ttl_s }, { signal });
    log.info({ session: opened.id }, `${who} opened a session`);
    this.#use(opened);
  }

  #use(session: Session): void {
    this.#keeping.abort();
    this.#keeping = new AbortController();
    this.#session = session.id;
    const { signal } = this.#keeping;
    this.#parts.keepAlive(session, signal, (loss) => {
      if (signal.aborted) return;
      this.#parts.log.warn(
        { session: loss.session, reason: loss.reason },
        `${this.#parts.who} lost its session: ${loss.detail}`,
      );
      this.#forgetSession();
      this.look();
    });
  }

  #forgetSession(): void {
    this.#keeping.abort();
    this.#session = undefined;
    this.#parts.growth.forget();
    this.#answers = this.#answers.map(() => undefined);
  }

  /** Live leases of this holder by session: what a former agent left. */
  #leftAlive(desired: DesiredMachine): ReadonlyMap<string, readonly Lease[]> {
    const live = [...desired.leases.values()].filter(
      (lease) => lease.holder === this.#parts.holder && lease.session !== null && lease.state !== 'ending',
    );
    return Map.groupBy(live, (lease) => lease.session ?? '');
  }

  #match(leases: readonly Lease[]): (Answer | undefined)[] {
    const left = new Set(leases);
    return this.#parts.claims.map((claim) => {
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
      await this.#parts.client.leases.release(lease);
  }

  #hasLost(desired: DesiredMachine): boolean {
    return this.#session === undefined || this.#answers.some((answer) => !answer || this.#isLost(answer, desired));
  }

  #allActive(desired: DesiredMachine): boolean {
    return this.#answers.every((answer) => answer && desired.leases.get(answer.lease)?.state === 'active');
  }

  #isLost(answer: Answer, desired: DesiredMachine): boolean {
    return isLost(answer, desired, (lease) => this.#parts.isRefused(lease));
  }

  #lose(desired: DesiredMachine): void {
    this.#answers = this.#answers.map((answer) => (answer && !this.#isLost(answer, desired) ? answer : undefined));
  }

  async #giveBackRefused(desired: DesiredMachine, signal: AbortSignal): Promise<void> {
    const { client, isRefused } = this.#parts;
    for (const answer of this.#answers)
      if (answer && isRefused(answer.lease) && desired.leases.get(answer.lease)?.state === 'active')
        await client.leases.release({ id: answer.lease, token: answer.token }, { signal });
  }

  /** Asks for the claims without a lease, one by one: what one claim cannot have should not keep the others waiting. */
  async #claim(signal: AbortSignal): Promise<void> {
    const { client, claims, who, log } = this.#parts;
    let problem: unknown;
    for (const [index, claim] of claims.entries()) {
      const session = this.#session;
      if (this.#answers[index] || session === undefined) continue;
      try {
        const { leases } = await client.leases.grant(
          { session, claims: [withoutGrowth(claim)] },
          { wait: 'stored', signal },
        );
        const [lease] = leases;
        if (!lease) throw new Error('the server granted no lease and no error');
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
