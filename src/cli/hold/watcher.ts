import { spawn, type ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';

/**
 * Reads the number of a process, then waits for a second line: that is good-bye. The end of the pipe without it means that
 * whoever held the other end was killed. It stands apart from the signals of a terminal, and is not stopped with us.
 */
const script = `
trap '' HUP INT QUIT TERM
read -r pid || exit 0
read -r farewell && exit 0
kill -TERM "$pid" 2>/dev/null || exit 0
left=$1
while [ "$left" -gt 0 ] && kill -0 "$pid" 2>/dev/null; do sleep 1; left=$((left - 1)); done
kill -KILL "$pid" 2>/dev/null
exit 0
`;

/**
 * Ends the held program when this process is killed: SIGKILL leaves no time to do so, and nobody would keep the session alive.
 * A shell at the other end of a pipe, because the kernel's own way (PR_SET_PDEATHSIG) is Linux only, knows no grace, and is
 * forgotten by programs that change their user.
 */
export class Watcher {
  readonly #shell: ChildProcess;

  constructor(grace_s: number) {
    const args = ['-c', script, 'fishery-hold-watcher', `${Math.ceil(grace_s)}`];
    this.#shell = spawn('/bin/sh', args, { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    // Without a shell the program is as well off as it was without a watcher.
    this.#shell.on('error', () => {});
    this.#shell.stdin?.on('error', () => {});
    this.#shell.unref();
    const pipe = this.#shell.stdin;
    if (pipe instanceof Socket) pipe.unref();
  }

  over(pid: number): void {
    this.#shell.stdin?.write(`${pid}\n`);
  }

  dismiss(): void {
    this.#shell.stdin?.end('good-bye\n');
  }
}
