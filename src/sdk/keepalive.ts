import type { Session } from '../wire/sessions.ts';
import { backoffMs, pause } from './backoff.ts';
import type { FisheryClient } from './client.ts';
import { FisheryError, localCodes } from './errors.ts';

/** Why a session is over: the server's word for it, or that it could not be reached before the time was up. */
export type SessionLoss = Readonly<{
  session: string;
  reason: 'expired' | 'ended' | 'refused';
  /** For people: what happened, with the session's name in it. */
  detail: string;
  error: FisheryError;
}>;

export type KeepAliveOptions = Readonly<{
  /** Stops keeping alive without ending the session. */
  signal?: AbortSignal;
  /**
   * The session is lost and every lease of it with it: whatever uses its ports must stop now. Called at most once, and
   * at the latest when the time to live since the last answered keepalive was sent is over.
   */
  onLost: (loss: SessionLoss) => void;
  /** A keepalive failed and there is time left to try again. */
  onTrouble?: (error: FisheryError, msLeft: number) => void;
  random?: () => number;
}>;

export type KeepAlive = Readonly<{
  /** As the server last answered. */
  session: () => Session;
  /** Stops keeping alive without ending the session; nothing is called afterwards. */
  stop: () => void;
  /** Resolves when it stopped, lost or not. */
  done: Promise<void>;
}>;

/**
 * Keeps a session alive: one keepalive now, then one every third of its time to live, tried again at short intervals when
 * it fails. The time that is left counts from when the last answered keepalive was SENT, because the server's clock for
 * it cannot have started earlier; so the loss is told here no later than it is true there (but for a machine that was
 * suspended meanwhile, which learns it from its next keepalive).
 */
export function keepAlive(client: FisheryClient, opened: Session, options: KeepAliveOptions): KeepAlive {
  const stopping = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stopping.signal]) : stopping.signal;
  let session = opened;
  return {
    session: () => session,
    stop: () => stopping.abort(),
    done: loop(client, opened, { ...options, signal }, (latest) => {
      session = latest;
    }),
  };
}

async function loop(
  client: FisheryClient,
  opened: Session,
  options: KeepAliveOptions & { signal: AbortSignal },
  onSession: (session: Session) => void,
): Promise<void> {
  const { signal, onLost, onTrouble = () => {}, random = Math.random } = options;
  const ttlMs = opened.ttl_s * 1_000;
  const everyMs = ttlMs / 3;
  let answeredSentAt = performance.now();
  let failures = 0;
  // At once, because how long ago the session was opened is not known here.
  let waitMs = 0;
  try {
    for (;;) {
      await pause(waitMs, signal);
      const sentAt = performance.now();
      const msLeft = answeredSentAt + ttlMs - sentAt;
      try {
        if (msLeft <= 0) throw new FisheryError('no time is left', { code: localCodes.timeout, retryable: false });
        // An attempt may not use up all the time: a hanging connection must leave room for another one.
        const timeoutMs = Math.min(everyMs, msLeft);
        onSession(await client.sessions.keepalive(opened.id, { signal, timeoutMs }));
        answeredSentAt = sentAt;
        failures = 0;
        waitMs = everyMs;
      } catch (thrown) {
        signal.throwIfAborted();
        if (!(thrown instanceof FisheryError)) throw thrown;
        const left = answeredSentAt + ttlMs - performance.now();
        const isFinal = !thrown.retryable && thrown.status !== null && thrown.status < 500;
        if (isFinal || left <= 0) {
          onLost(lossOf(opened, thrown, isFinal));
          return;
        }
        onTrouble(thrown, left);
        failures++;
        const cap = everyMs / 2;
        waitMs = Math.min(left, backoffMs({ firstMs: Math.min(250, cap), maxMs: cap, random }, failures));
      }
    }
  } catch (thrown) {
    if (signal.aborted && thrown === signal.reason) return;
    throw thrown;
  }
}

function lossOf(session: Session, error: FisheryError, isFinal: boolean): SessionLoss {
  const who = `${session.id} of ${session.holder} on ${session.machine}`;
  if (!isFinal) {
    const detail = `${who}: no keepalive was answered for ${session.ttl_s} s (${error.message})`;
    return { session: session.id, reason: 'expired', detail, error };
  }
  const reason = error.code === 'session_ended' || error.code === 'session_not_found' ? 'ended' : 'refused';
  return { session: session.id, reason, detail: `${who}: ${error.message}`, error };
}
