import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';

/**
 * Reads the number of a process and when it began, then waits for a second line: that is good-bye. The end of the pipe without
 * it means that whoever held the other end was killed. It stands apart from the signals of a terminal, and is not stopped with us.
 *
 * A number alone may be somebody else's by then, so nothing is signalled whose beginning is another one. What the program
 * started ends with it: known by its parents, each looked at while it lives, because a child whose parent is gone has init's
 * number there. SIGSTOP comes before SIGKILL, so that nobody starts another one in between. `-` for the beginning: this
 * system has no /proc, and the number is all there is.
 */
const script = `
trap '' HUP INT QUIT TERM
read -r pid begin || exit 0
read -r farewell && exit 0
left=$1
known=" $pid:$begin "

look() {
  line=
  while read -r part; do line="$line $part"; done < "/proc/$1/stat" || return 1
  set -- \${line##*) }
  [ $# -ge 20 ] || return 1
  state=$1 parent=$2 begun=\${20}
}
lives() {
  if [ "$2" = - ]; then kill -0 "$1"; return; fi
  look "$1" && [ "$begun" = "$2" ] && [ "$state" != Z ] && [ "$state" != X ]
}
gather() {
  before=
  while [ "$before" != "$known" ]; do
    before=$known
    for child in /proc/[0-9]*; do
      child=\${child#/proc/}
      look "$child" || continue
      of=$parent since=$begun
      case $known in *" $child:$since "*) continue ;; *" $of:"*) ;; *) continue ;; esac
      rest=\${known##*" $of:"}
      if lives "$of" "\${rest%% *}"; then known="$known$child:$since "; fi
    done
  done
}
tell() {
  for each in $known; do
    if lives "\${each%:*}" "\${each#*:}"; then kill "-$1" "\${each%:*}"; fi
  done
}
anybody() {
  for each in $known; do
    if lives "\${each%:*}" "\${each#*:}"; then return 0; fi
  done
  return 1
}

lives "$pid" "$begin" || exit 0
gather
kill -TERM "$pid"
told=no
while anybody; do
  [ "$left" -gt 0 ] || break
  gather
  if [ "$told" = no ] && ! lives "$pid" "$begin"; then told=yes; tell TERM; fi
  sleep 1
  left=$((left - 1))
done
while before=$known; tell STOP; gather; [ "$before" != "$known" ]; do :; done
tell KILL
exit 0
`;

/** When a process began, in clock ticks since the host did; `-` where nothing says so. */
function beginOf(pid: number): string {
  try {
    // The name before it is in brackets, and may have anything in it.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[19] ?? '-';
  } catch {
    return '-';
  }
}

/**
 * Ends the held program, and what it started, when it is told so, or when this process is killed: SIGKILL leaves no time to do so, and nobody would keep the session alive.
 * A shell at the other end of a pipe, because the kernel's own way (PR_SET_PDEATHSIG) is Linux only, knows no grace, and is
 * forgotten by programs that change their user.
 */
export class Watcher {
  readonly #shell: ChildProcess;
  #isAtWork = false;

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

  /** To be called before anybody may have waited for the process: until then its number is nobody else's. */
  over(pid: number, begin = beginOf(pid)): void {
    this.#shell.stdin?.write(`${pid} ${begin}\n`);
  }

  dismiss(): void {
    if (!this.#isAtWork) this.#shell.stdin?.end('good-bye\n');
  }

  /**
   * Does at once what it is there for; resolves when it is done, with false when there was no shell to do it, or it was
   * killed on the way.
   */
  carryOut(): Promise<boolean> {
    this.#isAtWork = true;
    const { exitCode, pid } = this.#shell;
    if (exitCode !== null || pid === undefined) return Promise.resolve(false);
    this.#shell.ref();
    const ended = new Promise<boolean>((resolve) => this.#shell.once('exit', (code) => resolve(code === 0)));
    this.#shell.stdin?.end();
    return ended;
  }
}
