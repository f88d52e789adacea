import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';

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
}>;

/** Starts the program with this process's own standard streams. `complain` hears why it could not be started. */
export function startHeld(
  [program = '', ...args]: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  complain: (line: string) => void,
): Held {
  const child: ChildProcess = spawn(program, args, { stdio: 'inherit', env });
  const exited = new Promise<number>((done) => {
    child.on('exit', (code, signal) => done(signal === null ? (code ?? 1) : exitCodeOfSignal(signal)));
    child.on('error', (error: NodeJS.ErrnoException) => {
      // Also told when a signal cannot be delivered; then the program is running and its exit decides.
      if (child.pid !== undefined) return;
      complain(`${program} cannot be started: ${error.message}`);
      done(error.code === 'ENOENT' ? exitCodeNotFound : exitCodeNotExecutable);
    });
  });
  return { exited, signal: (signal) => child.kill(signal) };
}
