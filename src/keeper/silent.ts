import { readdirSync, statSync, type Stats } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { EAGAIN, ECONNREFUSED, ENOENT } from '../sys/constants.ts';
import { closeFd } from '../sys/descriptors.ts';
import { SysError } from '../sys/errno.ts';
import { peerCredentials, peerLives } from '../sys/peer.ts';
import { receiveDescriptors, sendDescriptors } from '../sys/scm.ts';
import { connectSeqpacket } from '../sys/seqpacket.ts';
import { waitReadable } from '../sys/wait.ts';
import { lockOf } from './place.ts';
import { processState } from './process-state.ts';
import { headerBytes, keeperVersion, messageBytes_max, op, writeHeader } from './protocol.ts';

/** A keeper that says nothing for so long hangs: it has nothing else to do than to answer. */
const silence_ms_max = 2_000;
const between_looks_ms = 20;
/** Until a process that was killed is gone: it closes everything that it keeps. */
const dying_ms_max = 5_000;

/** `socket`: a connection on which nothing was answered, to be closed; undefined where not even that was taken. */
export type Reached = Readonly<{ is: 'answers' | 'absent' }> | Readonly<{ is: 'silent'; socket: number | undefined }>;

/** Whether whoever listens at a path answers, refusals included. Waits for that without holding up its thread. Throws SysError. */
export async function reachKeeper(path: string, patience_ms = silence_ms_max): Promise<Reached> {
  const until = performance.now() + patience_ms;
  let socket: number | undefined;
  for (;;) {
    socket ??= knock(path);
    if (socket === noListener) return { is: 'absent' };
    if (socket !== undefined && waitReadable(Int32Array.of(socket), 1, 0) !== 0) {
      drain(socket);
      closeFd(socket);
      return { is: 'answers' };
    }
    if (performance.now() >= until) return { is: 'silent', socket };
    await sleep(between_looks_ms);
  }
}

const noListener = -1;

/** undefined: so many wait to be heard already that nobody else may. */
function knock(path: string): number | undefined {
  const hello = new Uint8Array(new ArrayBuffer(headerBytes));
  writeHeader(hello, op.hello, 0, 0, keeperVersion);
  try {
    const socket = connectSeqpacket(path, { wait_ms: 0 });
    sendDescriptors(socket, hello, []);
    return socket;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    if (error.errno === EAGAIN) return undefined;
    if (error.errno === ENOENT || error.errno === ECONNREFUSED) return noListener;
    throw error;
  }
}

function drain(socket: number): void {
  try {
    receiveDescriptors(socket, new Uint8Array(new ArrayBuffer(messageBytes_max))).descriptors.forEach(closeFd);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
  }
}

/**
 * Ends a keeper that does not answer, with everything in it, if it is certain that the process at the other end is the keeper of
 * this path. The error is one line for people.
 */
export async function endSilent(path: string, socket: number | undefined): Promise<string | undefined> {
  const said = `the keeper at ${path} does not answer`;
  const byHand = `end it by hand: see who has ${lockOf(path)} open`;
  if (socket === undefined) return `${said}, and does not say which process it is: ${byHand}`;
  try {
    const { pid, uid } = peerCredentials(socket);
    const isOurs = (uid === 0 || uid === process.geteuid?.()) && pid > 0 && hasOpen(pid, lockOf(path));
    // In this order: what was read of that pid was about the process that listens.
    if (!isOurs || peerLives(socket) === false)
      return `${said}, and is not a process that can be told from here: ${byHand}`;
    process.kill(pid, 'SIGKILL');
    return (await isGone(pid)) ? undefined : `${said}, and process ${pid} does not end, although it was killed`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return undefined;
    if (error instanceof SysError || (error as NodeJS.ErrnoException).code === 'EPERM')
      return `${said}, and cannot be ended: ${(error as Error).message}`;
    throw error;
  } finally {
    closeFd(socket);
  }
}

/** Whether a process has this very file open: nobody else's name for it counts. */
function hasOpen(pid: number, path: string): boolean {
  const file = statSync(path, { throwIfNoEntry: false });
  if (!file) return false;
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) =>
      isSame(statSync(`/proc/${pid}/fd/${fd}`, { throwIfNoEntry: false }), file),
    );
  } catch {
    // It is gone, or its descriptors are not for this process to see.
    return false;
  }
}

const isSame = (a: Stats | undefined, b: Stats): boolean => a?.dev === b.dev && a.ino === b.ino;

async function isGone(pid: number): Promise<boolean> {
  const until = performance.now() + dying_ms_max;
  while (performance.now() < until) {
    const state = processState(pid);
    // Nobody has waited for a zombie yet; its descriptors are closed.
    if (state === undefined || state.letter === 'Z' || state.letter === 'X') return true;
    await sleep(between_looks_ms);
  }
  return false;
}
