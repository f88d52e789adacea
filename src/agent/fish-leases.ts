import type { Logger } from '../ops/logger.ts';
import { isFisheryError, type FisheryClient, type SessionLoss } from '../sdk/index.ts';
import type { ClaimOfOne, Lease } from '../wire/leases.ts';
import type { Session } from '../wire/sessions.ts';
import type { DesiredMachine } from './desired.ts';
import { Bell, isOver } from './waiting.ts';

export type FishClaim = ClaimOfOne;

/** What fish's leases need of the server, in the SDK's words. */
export type FishLeaseClient = Readonly<{
  sessions: Pick<FisheryClient['sessions'], 'open' | 'keepalive' | 'end'>;
  leases: Pick<FisheryClient['leases'], 'grant' | 'release'>;
}>;

export type FishLeaseParts = Readonly<{
  client: FishLeaseClient;
  machine: string;
  holder: string;
  ttl_s: number;
  claims: readonly FishClaim[];
  /** Keeps a session alive in the background until the signal aborts; `onLost` when it is over. */
  keepAlive(session: Session, signal: AbortSignal, onLost: (loss: SessionLoss) => void): void;
  /** Whether the host would not have a lease that the server counts as active: nobody can use it. */
  isRefused(lease: string): boolean;
  /** Waits before attempt number `attempt` (1 is the first repetition); rejects when the signal aborts. */
  pause(attempt: number, signal: AbortSignal): Promise<void>;
  log: Pick<Logger, 'info' | 'warn'>;
}>;

/** The lease that answers a claim. `grantedAt` is the revision from which on the desired state must know it. */
type Answer = Readonly<{ lease: string; token: string; grantedAt: number }>;

/**
 * The session of this machine's fish and the leases that its settings claim. Each claim has at most one lease; one that
 * is lost (refused by the host, revoked, session over) is claimed again. A session that a former agent of this machine
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

  status(): Readonly<{ session: string | null; claims: number; answered: number; problem: string | null }> {
    const answered = this.#answers.filter((each) => each !== undefined).length;
    return { session: this.#session ?? null, claims: this.#answers.length, answered, problem: this.#lastProblem };
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
          await this.#bell.heard(signal);
          if (isOver(signal)) return;
        }
        await this.#giveBackRefused(desired(), signal);
        this.#lose(desired());
        // Each refused lease blocks its ports: whatever is wrong here must not eat the slice at the speed of the network.
        await this.#parts.pause(++this.#attempt, signal).catch(() => {});
      } catch (error) {
        if (isOver(signal)) return;
        this.#lastProblem = error instanceof Error ? error.message : String(error);
        const { claims, answered } = this.status();
        this.#parts.log.warn({ claims, answered }, `fish has not all its leases: ${this.#lastProblem}`);
        this.refused++;
        // A new session tells what is wrong with this one.
        if (isFisheryError(error, 'session_ended') || isFisheryError(error, 'session_not_found')) this.#forgetSession();
        await this.#parts.pause(++this.#attempt, signal).catch(() => {});
      }
    }
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
    const { client, machine, holder, ttl_s, log } = this.#parts;
    for (const [session, leases] of this.#leftAlive(desired)) {
      try {
        const kept = await client.sessions.keepalive(session, { signal });
        this.#answers = this.#match(leases);
        log.info({ session, leases: leases.length }, 'fish takes over its session and leases');
        this.#use(kept);
        await this.#releaseOthers(leases);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!isFisheryError(error) || error.retryable) throw error;
      }
    }
    const opened = await client.sessions.open({ machine, holder, ttl_s }, { signal });
    log.info({ session: opened.id }, 'fish opened a session');
    this.#use(opened);
  }

  #use(session: Session): void {
    this.#keeping.abort();
    this.#keeping = new AbortController();
    this.#session = session.id;
    const { signal } = this.#keeping;
    this.#parts.keepAlive(session, signal, (loss) => {
      if (signal.aborted) return;
      this.#parts.log.warn({ session: loss.session, reason: loss.reason }, `fish lost its session: ${loss.detail}`);
      this.#forgetSession();
      this.look();
    });
  }

  #forgetSession(): void {
    this.#keeping.abort();
    this.#session = undefined;
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

  /** What the settings do not claim any more. */
  async #releaseOthers(leases: readonly Lease[]): Promise<void> {
    const wanted = new Set(this.#answers.map((answer) => answer?.lease));
    for (const lease of leases) if (!wanted.has(lease.id)) await this.#parts.client.leases.release(lease);
  }

  #hasLost(desired: DesiredMachine): boolean {
    return this.#session === undefined || this.#answers.some((answer) => !answer || this.#isLost(answer, desired));
  }

  #allActive(desired: DesiredMachine): boolean {
    return this.#answers.every((answer) => answer && desired.leases.get(answer.lease)?.state === 'active');
  }

  /** Its lease is over, or ends, or is of no use here. */
  #isLost({ lease: id, grantedAt }: Answer, desired: DesiredMachine): boolean {
    const lease = desired.leases.get(id);
    if (!lease) return desired.revision >= grantedAt;
    return lease.state === 'ending' || (lease.state === 'active' && this.#parts.isRefused(id));
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
    const { client, claims, log } = this.#parts;
    let problem: unknown;
    for (const [index, claim] of claims.entries()) {
      const session = this.#session;
      if (this.#answers[index] || session === undefined) continue;
      try {
        const { leases } = await client.leases.grant({ session, claims: [claim] }, { wait: 'stored', signal });
        const [lease] = leases;
        if (!lease) throw new Error('the server granted no lease and no error');
        this.#answers[index] = answerOf(lease);
        log.info({ lease: lease.id, address: lease.address, ports: lease.ports }, 'fish was granted a lease');
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

const answerOf = ({ id, token, revision }: Lease): Answer => ({ lease: id, token, grantedAt: revision });

/** Whether a lease is what a claim asks for. A claim of n ports gets a block of the next power of two. */
function answers(lease: Lease, claim: FishClaim): boolean {
  const size = lease.ports.last - lease.ports.first + 1;
  const isSize =
    claim.ports === undefined ? claim.mode === 'shared' || size === 1 : size === 2 ** Math.ceil(Math.log2(claim.ports));
  return (
    lease.protocol === claim.protocol &&
    lease.mode === claim.mode &&
    isSize &&
    (claim.mode === 'exclusive' || lease.binding === (claim.binding ?? 'late')) &&
    (claim.pool === undefined || lease.pool === claim.pool) &&
    (claim.family === undefined || lease.address.includes(':') === (claim.family === 6)) &&
    (claim.at === undefined || (lease.address === claim.at.address && lease.ports.first === claim.at.first_port))
  );
}
