import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import { formatPorts } from '../../net/ports.ts';
import { FisheryError, keepAlive, watchLeases, type FisheryClient } from '../../sdk/index.ts';
import type { Claim, Lease } from '../../wire/leases.ts';
import type { Session } from '../../wire/sessions.ts';
import { exitCodes } from '../command.ts';
import { exitCodeOfSignal, forwardedSignals, startHeld, type ForwardedSignal, type Held } from './child.ts';
import { bindLeases } from './bind.ts';
import { descriptorVariables, leaseVariables } from './environment.ts';

export type HoldOptions = Readonly<{
  machine: string;
  holder: string;
  claims: readonly z.input<typeof Claim>[];
  ttl_s: number;
  /** How long to wait for the agent to make the leases true. */
  apply_timeout_s: number;
  on_lost: 'terminate' | 'keep';
  /** From SIGTERM to SIGKILL when the program must stop because its ports are no longer its own. */
  grace_s: number;
  /** Hand the program a bound socket for each port. */
  bind: boolean;
  command: readonly string[];
}>;

export type HoldHost = Readonly<{
  env: Readonly<Record<string, string | undefined>>;
  complain: (line: string) => void;
  signals: NodeJS.EventEmitter;
  /** A terminal sends Ctrl-C to the whole foreground group, so the program has got it already. */
  isTerminal: boolean;
}>;

/** The program had to be stopped because its session or a lease was lost: a service manager should try again (EX_TEMPFAIL). */
export const exitCodeLost = 75;
const releaseTimeoutMs = 5_000;

/**
 * Opens a session, takes the leases, runs the program with them in its environment for as long as it lasts, and gives
 * them back. Returns the program's exit code; 75 when it was stopped because its ports were lost; 1 when it never
 * started because there were no leases.
 */
export async function hold(client: FisheryClient, options: HoldOptions, host: HoldHost): Promise<number> {
  const interrupt = new SignalRelay(host);
  let session: Session | undefined;
  try {
    session = await client.sessions.open(
      { machine: options.machine, holder: options.holder, ttl_s: options.ttl_s },
      { signal: interrupt.early },
    );
    return await withSession(client, session, options, host, interrupt);
  } catch (thrown) {
    if (interrupt.early.aborted && thrown === interrupt.early.reason) return exitCodeOfSignal(interrupt.first);
    if (!(thrown instanceof FisheryError)) throw thrown;
    host.complain(thrown.message);
    return exitCodes.failure;
  } finally {
    if (session) await release(client, session, host);
    interrupt.close();
  }
}

async function withSession(
  client: FisheryClient,
  session: Session,
  options: HoldOptions,
  host: HoldHost,
  relay: SignalRelay,
): Promise<number> {
  const lost = awaited<string>();
  const stop = new AbortController();
  // From the start: the agent may take longer to make the leases true than the session lives.
  const kept = keepAlive(client, session, {
    signal: stop.signal,
    onLost: ({ detail }) => lost.resolve(`the session is lost: ${detail}`),
    onTrouble: (error, msLeft) =>
      host.complain(`keepalive failed, ${(msLeft / 1_000).toFixed(1)} s left: ${error.message}`),
  });
  try {
    const leases = await takeLeases(client, session, options, relay.early, lost.promise);
    if (typeof leases === 'string') {
      host.complain(leases);
      return exitCodes.failure;
    }
    for (const lease of leases) host.complain(`${lease.id}: ${describe(lease)}`);
    const bound = options.bind ? await bindLeases(leases) : none;
    if (typeof bound === 'string') {
      host.complain(bound);
      return exitCodes.failure;
    }
    const watching = watchLeases(client, session, {
      signal: stop.signal,
      onLost: (gone) =>
        lost.resolve(
          gone.map((lease) => `${lease.id} (${describe(lease)}) is ${lease.ending ?? lease.state}`).join('; '),
        ),
      onTrouble: (error) => host.complain(`the leases cannot be looked at: ${error.message}`),
    });
    const handed = options.bind ? descriptorVariables(bound.names) : {};
    const held = startHeld(options.command, {
      env: { ...host.env, ...leaseVariables(session.id, leases), ...handed },
      descriptors: bound.descriptors,
      outlived_grace_s: options.on_lost === 'keep' ? null : options.grace_s,
      complain: host.complain,
    });
    // The program has its own by now; while we have ours, too, the ports would not be free when it lets go of them.
    bound.close();
    relay.to(held);
    try {
      return await outlast(held, lost.promise, options, host);
    } finally {
      stop.abort();
      await watching;
    }
  } finally {
    stop.abort();
    await kept.done;
  }
}

const none = { names: [], descriptors: [], close: () => {} };

/** Promise.withResolvers, which Node.js has from version 22 on; a package runs on older ones too. */
function awaited<T>(): Readonly<{ promise: Promise<T>; resolve: (value: T) => void }> {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** The leases, all active; or, as text, why there are none. */
async function takeLeases(
  client: FisheryClient,
  session: Session,
  options: HoldOptions,
  signal: AbortSignal,
  lost: Promise<string>,
): Promise<readonly Lease[] | string> {
  const granted = await Promise.race([
    client.leases.grant(
      { session: session.id, claims: [...options.claims] },
      { wait: 'applied', timeoutS: options.apply_timeout_s, signal },
    ),
    lost,
  ]);
  if (typeof granted === 'string') return granted;
  const waiting = granted.leases.filter(({ state }) => state !== 'active');
  return waiting.length === 0
    ? granted.leases
    : `the agent of ${options.machine} has not made ${waiting.map(({ id, state }) => `${id} (${state})`).join(', ')} ` +
        `true within ${options.apply_timeout_s} s`;
}

/** Waits for the program's end; when its ports are lost before that, tells it and, unless told otherwise, ends it. */
async function outlast(held: Held, lost: Promise<string>, options: HoldOptions, host: HoldHost): Promise<number> {
  const first = await Promise.race([held.exited, lost]);
  if (typeof first === 'number') return first;
  host.complain(first);
  if (options.on_lost === 'keep') {
    host.complain('the program goes on without the right to its ports (--on-lost keep)');
    return held.exited;
  }
  host.complain(`stopping the program (SIGTERM, then SIGKILL after ${options.grace_s} s)`);
  // With all that it started: what is left of it would go on with ports that may be another's.
  if (!(await held.endAll())) await endAlone(held, options.grace_s);
  await held.exited;
  return exitCodeLost;
}

/** Where nobody can say what it started. */
async function endAlone(held: Held, grace_s: number): Promise<void> {
  held.signal('SIGTERM');
  const grace = new AbortController();
  const overdue = sleep(grace_s * 1_000, 'overdue', { signal: grace.signal }).catch(() => 'ended');
  if ((await Promise.race([held.exited, overdue])) === 'overdue') held.signal('SIGKILL');
  await held.exited;
  grace.abort();
}

async function release(client: FisheryClient, session: Session, host: HoldHost): Promise<void> {
  try {
    await client.sessions.end(session.id, { timeoutMs: releaseTimeoutMs });
  } catch (thrown) {
    if (!(thrown instanceof FisheryError)) throw thrown;
    if (thrown.code === 'session_ended') return;
    host.complain(`${session.id} could not be ended, it expires within ${session.ttl_s} s: ${thrown.message}`);
  }
}

const describe = (lease: Lease): string =>
  `${lease.address}:${formatPorts(lease.ports)}/${lease.protocol}, ${lease.mode}${lease.binding ? ` (${lease.binding})` : ''}`;

/** Where signals go: before the program runs they end the preparations, from then on they are the program's. */
class SignalRelay {
  readonly #host: HoldHost;
  readonly #early = new AbortController();
  readonly #handlers: readonly (readonly [ForwardedSignal, () => void])[];
  #held: Held | undefined;
  /** The first signal that came before there was a program. */
  first: NodeJS.Signals = 'SIGTERM';

  constructor(host: HoldHost) {
    this.#host = host;
    this.#handlers = forwardedSignals.map((signal) => [signal, () => this.#on(signal)]);
    for (const [signal, handler] of this.#handlers) host.signals.on(signal, handler);
  }

  get early(): AbortSignal {
    return this.#early.signal;
  }

  to(held: Held): void {
    this.#held = held;
  }

  close(): void {
    for (const [signal, handler] of this.#handlers) this.#host.signals.off(signal, handler);
  }

  #on(signal: ForwardedSignal): void {
    if (this.#held) {
      if (this.#host.isTerminal && (signal === 'SIGINT' || signal === 'SIGQUIT')) return;
      this.#held.signal(signal);
    } else if (signal !== 'SIGWINCH' && !this.#early.signal.aborted) {
      this.first = signal;
      this.#early.abort(new Error(`interrupted by ${signal}`));
    }
  }
}
