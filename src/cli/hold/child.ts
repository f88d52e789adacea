import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import { Watcher } from './watcher.ts';

/** Signals that a service manager or a shell sends to a program, and that the held one must get as if it stood here. */
export const forwardedSignals = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const;
export type ForwardedSignal = (typeof forwardedSignals)[number];

/** What a shell says of a command that ended by a signal, that cannot be run, and that does not exist. */
export const exitCodeOfSignal = (signal: NodeJS.Signals): number => 128 + constants.signals[signal];
const exitCodeNotExecutable = 126;
const exitCodeNotFound = 127;

export type Held = Readonly<{
  /** The exit code, as a shell would give it. Never rejects. */
  exited: Promise<number>;
  signal: (signal: NodeJS.Signals) => void;
  /**
   * Ends the program and what it started: SIGTERM, and after `outlived_grace_s` SIGKILL. Resolves when all of them were
   * ended; false where that could not be done.
   */
  endAll: () => Promise<boolean>;
}>;

export type HeldOptions = Readonly<{
  env: Readonly<Record<string, string | undefined>>;
  /** Become the program's descriptors from 3 on; LISTEN_PID in its environment is its own number then. */
  descriptors: readonly number[];
  /** From SIGTERM to SIGKILL when its ports are lost, or this process dies before it; null: it may outlive both. */
  outlived_grace_s: number | null;
  /** Hears why it could not be started. */
  complain: (line: string) => void;
}>;

/** exec keeps the number of a process, so a shell can tell it to what comes after itself. */
const tellPid = 'LISTEN_PID=$$; export LISTEN_PID; exec "$@"';

/** Starts the program with this process's own standard streams. */
export function startHeld(command: readonly string[], o: HeldOptions): Held {
  const { env, descriptors, outlived_grace_s, complain } = o;
  const whole = descriptors.length > 0 ? ['/bin/sh', '-c', tellPid, 'fishery-hold', ...command] : command;
  const [program = '', ...args] = whole;
  const watcher = outlived_grace_s === null ? undefined : new Watcher(outlived_grace_s);
  const child: ChildProcess = spawn(program, args, {
    stdio: ['inherit', 'inherit', 'inherit', ...descriptors],
    env,
  });
  if (child.pid !== undefined) watcher?.over(child.pid);
  const exited = new Promise<number>((done) => {
    child.on('exit', (code, signal) => {
      watcher?.dismiss();
      done(signal === null ? (code ?? 1) : exitCodeOfSignal(signal));
    });
    child.on('error', (error: NodeJS.ErrnoException) => {
      // Also told when a signal cannot be delivered; then the program is running and its exit decides.
      if (child.pid !== undefined) return;
      watcher?.dismiss();
      complain(`${program} cannot be started: ${error.message}`);
      done(error.code === 'ENOENT' ? exitCodeNotFound : exitCodeNotExecutable);
    });
  });
  return {
    exited,
    signal: (signal) => child.kill(signal),
    endAll: async () => (await watcher?.carryOut()) ?? false,
  };
}
