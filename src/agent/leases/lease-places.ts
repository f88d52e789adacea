import { isBrokers } from '../../broker/identifiers.ts';
import type { Logger } from '../../ops/logger.ts';
import { isFisheryError, type FisheryClient, type SessionLoss } from '../../sdk/index.ts';
import type { ClaimOfOne, Lease } from '../../wire/leases.ts';
import type { Session } from '../../wire/sessions.ts';

/** What is needed of a server, or of a broker, in the SDK's words. */
export type LeaseClient = Readonly<{
  sessions: Pick<FisheryClient['sessions'], 'open' | 'keepalive' | 'end'>;
  leases: Pick<FisheryClient['leases'], 'grant' | 'release'>;
}>;

export type LeasePlacesParts = Readonly<{
  server: LeaseClient;
  /** Of this host; null where the settings want none. */
  broker: LeaseClient | null;
  machine: string;
  holder: string;
  /** Of the holder, as the command is called that makes it: a terminator has a user id besides. */
  kind: 'fish' | 'terminator';
  /** Who it is for, as the log calls it. */
  who: string;
  ttl_s: number;
  /** Keeps a session alive in the background until the signal aborts; `onLost` when it is over. */
  keepAlive(session: Session, signal: AbortSignal, onLost: (loss: SessionLoss) => void): void;
  log: Pick<Logger, 'info' | 'warn'>;
}>;

/** What an operator types to have this holder made. */
export const putHolderCommand = ({
  machine,
  holder,
  kind,
}: Pick<LeasePlacesParts, 'machine' | 'holder' | 'kind'>): string =>
  `fishery holders put ${machine} ${holder} --kind ${kind}${kind === 'terminator' ? ' --uid UID' : ''}`;

/** `isIts`: whether a lease or session of this name is of the place whose session is over. */
type OnForgotten = (isIts: (id: string) => boolean) => void;

/** Where leases are had under one session, which is opened, or taken over, when it is needed. */
class LeasePlace {
  readonly #client: LeaseClient;
  readonly #parts: LeasePlacesParts;
  readonly #onForgotten: OnForgotten;
  #keeping = new AbortController();
  session: string | undefined;
  readonly isIts: (id: string) => boolean;

  constructor(client: LeaseClient, parts: LeasePlacesParts, isIts: (id: string) => boolean, onForgotten: OnForgotten) {
    this.#client = client;
    this.#parts = parts;
    this.isIts = isIts;
    this.#onForgotten = onForgotten;
  }

  /** Whether it is this place's by now. Throws when that cannot be told yet. */
  async takeOver(session: string, signal: AbortSignal): Promise<boolean> {
    try {
      this.#use(await this.#client.sessions.keepalive(session, { signal }));
      return true;
    } catch (error) {
      signal.throwIfAborted();
      if (!isFisheryError(error) || error.retryable) throw error;
      return false;
    }
  }

  async grant(claim: ClaimOfOne, signal: AbortSignal): Promise<Lease> {
    const session = this.session ?? (await this.#open(signal));
    try {
      const { leases } = await this.#client.leases.grant({ session, claims: [claim] }, { wait: 'stored', signal });
      const [lease] = leases;
      if (!lease) throw new Error('no lease was granted, and no error told');
      return lease;
    } catch (error) {
      // A new session tells what is wrong with this one.
      if (isFisheryError(error, 'session_ended') || isFisheryError(error, 'session_not_found')) this.#forget(session);
      throw error;
    }
  }

  async release(lease: Pick<Lease, 'id' | 'token'>, signal?: AbortSignal): Promise<void> {
    await this.#client.leases.release(lease, signal ? { signal } : {});
  }

  async end(): Promise<void> {
    const { session } = this;
    this.#keeping.abort();
    this.session = undefined;
    if (session !== undefined) await this.#client.sessions.end(session);
  }

  async #open(signal: AbortSignal): Promise<string> {
    const { machine, holder, who, ttl_s, log } = this.#parts;
    const opened = await this.#client.sessions.open({ machine, holder, ttl_s }, { signal }).catch((error: unknown) => {
      if (!isFisheryError(error, 'holder_not_found')) throw error;
      throw new Error(`${error.message}: have it made by \`${putHolderCommand(this.#parts)}\``, { cause: error });
    });
    log.info({ session: opened.id }, `${who} opened a session`);
    this.#use(opened);
    return opened.id;
  }

  #use(session: Session): void {
    this.#keeping.abort();
    this.#keeping = new AbortController();
    this.session = session.id;
    const { signal } = this.#keeping;
    const { keepAlive, log, who } = this.#parts;
    keepAlive(session, signal, (loss) => {
      if (signal.aborted) return;
      log.warn({ session: loss.session, reason: loss.reason }, `${who} lost its session: ${loss.detail}`);
      this.#forget(session.id);
    });
  }

  #forget(session: string): void {
    if (this.session !== session) return;
    this.#keeping.abort();
    this.session = undefined;
    this.#onForgotten(this.isIts);
  }
}

/**
 * Where fish and the terminator have their leases: of the server, and of this host's broker where the server leaves granting to
 * the machine, or cannot be reached. Each has a session of its own, and what is to be done to a lease is asked where it is of.
 */
export class LeasePlaces {
  readonly #server: LeasePlace;
  readonly #broker: LeasePlace | undefined;
  /** A session is over, and all leases in it. */
  onForgotten: OnForgotten = () => {};

  constructor(parts: LeasePlacesParts) {
    const onForgotten: OnForgotten = (isIts) => this.onForgotten(isIts);
    this.#server = new LeasePlace(parts.server, parts, (id) => !isBrokers(id), onForgotten);
    this.#broker = parts.broker ? new LeasePlace(parts.broker, parts, isBrokers, onForgotten) : undefined;
  }

  /** The server's, or the broker's where there is no other; null before there is any. */
  get session(): string | null {
    return this.#server.session ?? this.#broker?.session ?? null;
  }

  /**
   * Takes over, of sessions that a former agent left alive, one for each place that has none, and returns those. What is the
   * broker's is told from before that broker was at work, or not at all.
   */
  async takeOver(left: Iterable<string>, signal: AbortSignal): Promise<ReadonlySet<string>> {
    const taken = new Set<string>();
    for (const session of left) {
      const place = this.#placeOf(session);
      if (place?.session === undefined && (await place?.takeOver(session, signal))) taken.add(session);
    }
    return taken;
  }

  /** Of the server, or where it does not grant itself (or says nothing), of the broker. Throws what stands in the way. */
  async grant(claim: ClaimOfOne, signal: AbortSignal): Promise<Lease> {
    try {
      return await this.#server.grant(claim, signal);
    } catch (error) {
      signal.throwIfAborted();
      const isLeft = isFisheryError(error, 'machine_allocates');
      if (!this.#broker || !(isLeft || (isFisheryError(error) && error.status === null))) throw error;
      try {
        return await this.#broker.grant(claim, signal);
      } catch (problem) {
        if (!isLeft) throw error;
        // That one is away says nothing of whether the other is.
        if (!isFisheryError(problem) || problem.status !== null) throw problem;
        throw new Error(`the server leaves it to this host's broker, which is not reached: ${problem.message}`, {
          cause: problem,
        });
      }
    }
  }

  async release(lease: Pick<Lease, 'id' | 'token'>, signal?: AbortSignal): Promise<void> {
    await this.#placeOf(lease.id)?.release(lease, signal);
  }

  /** Ends the sessions: all leases go. Each is tried, whatever becomes of the other. */
  async end(): Promise<void> {
    const ended = await Promise.allSettled([this.#server.end(), this.#broker?.end()]);
    for (const each of ended) if (each.status === 'rejected') throw each.reason;
  }

  #placeOf(id: string): LeasePlace | undefined {
    return isBrokers(id) ? this.#broker : this.#server;
  }
}
