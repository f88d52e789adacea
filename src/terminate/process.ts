import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { addressToBytes, type Address } from '../net/address.ts';
import { EADDRINUSE } from '../sys/constants.ts';
import { closeFd, raiseDescriptorLimit } from '../sys/descriptors.ts';
import { errnoName } from '../sys/errno.ts';
import { listenTransparent } from '../sys/transparent-listener.ts';
import { connectTerminator } from './client.ts';
import type { ConnectionMemory } from './connection-memory.ts';
import { logPathOf, openConnectionMemory } from './log-file.ts';
import { Lines, protocolVersion, type Hello, type Operations, type Reply, type Request } from './protocol.ts';
import { Terminator } from './terminator.ts';

/** Packets for other addresses are led to these two: nobody outside this host can connect to them. */
const listeningOn: readonly Address[] = ['127.0.0.1' as Address, '::1' as Address];
/** As many as the kernel lets wait (net.core.somaxconn). */
const backlog = 4_096;
/** For the log, pipes, files of its own, and whoever asks it something. */
const descriptors_reserved = 256;
/** When it was killed is known as well as that, and a peer that is lost while nobody reads from it is noticed as late. */
const look_ms = 1_000;

/** What of it takes root. */
export type TerminatorPrivilege = Readonly<{
  /** A descriptor that listens, or -errno. */
  listen(address: Uint8Array, port: number, backlog: number): number;
  /** For good: nothing of root is left. Its sockets are this user's from now on, which is how the guard knows them. */
  become(uid: number): void;
}>;
const root: TerminatorPrivilege = {
  listen: listenTransparent,
  become(uid) {
    if (uid === 0 || process.geteuid?.() !== 0) throw new Error(`it cannot become user ${uid}`);
    process.setgroups?.([]);
    process.setgid?.(uid);
    process.setuid?.(uid);
  },
};

export type TerminatorProcess = Readonly<{
  /** Resolves when it was told to stop. */
  finished: Promise<void>;
  stop(): void;
}>;

/**
 * The process that connections are led to. It begins as root, opens what only root may, listens at `path` for the agent and waits to
 * hear whom it is to become; from then on it has no privilege at all. The agent may come and go. Throws Error with a line for
 * people when it cannot begin.
 */
export async function runTerminator(
  o: Readonly<{ path: string; port: number; version: string }>,
  { listen, become } = root,
): Promise<TerminatorProcess> {
  // Whoever started it may be gone, and what it says with it.
  for (const stream of [process.stdout, process.stderr])
    if (stream.listenerCount('error') === 0) stream.on('error', () => {});
  const there = await connectTerminator(o.path);
  if (there.ok) {
    there.value.close();
    throw new Error(`a terminator is at work at ${o.path} already`);
  }
  const descriptors_max = raiseDescriptorLimit().hard;
  const listeners = listenOn(listen, o.port);
  const { promise: finished, resolve: finish } = Promise.withResolvers<undefined>();
  const servers: Server[] = [];
  let terminator: Terminator | undefined;
  let uid: number | null = null;
  let log: string | null = null;
  let memory: ConnectionMemory | undefined;
  let looking: NodeJS.Timeout | undefined;
  let hasStopped = false;
  const configure = async ({ uid: wanted, settings, leases }: Operations['configure']['ask']) => {
    if (uid !== null && uid !== wanted) throw new Error(`it is user ${uid} for good, and is to be ${wanted}`);
    const most = Math.floor((descriptors_max - descriptors_reserved) / 2);
    // Nobody but root may make the file.
    log ??= logPathOf(o.path);
    memory ??= openConnectionMemory(log, {
      lasting: Math.min(settings.connections_max, most),
      ended: settings.flow_log_max,
    }).memory;
    const bounded = { ...settings, connections_max: Math.min(settings.connections_max, memory.sizes.lasting) };
    if (uid === null) become(wanted);
    uid = wanted;
    if (terminator) {
      terminator.configure(bounded, leases);
      return { log };
    }
    const begun = new Terminator(bounded, o.port, memory);
    begun.configure(bounded, leases);
    terminator = begun;
    looking = setInterval(() => {
      begun.alive();
      begun.lookForLost();
    }, look_ms);
    looking.unref();
    servers.push(...(await Promise.all(listeners.map((fd) => acceptOn(fd, (socket) => begun.accept(socket))))));
    return { log };
  };
  const answer = async (request: Request): Promise<unknown> => {
    switch (request.operation) {
      case 'configure':
        return configure(request.ask);
      case 'stats':
        return configured(terminator).stats(request.ask.destinations);
      case 'portUse':
        return configured(terminator).portUse();
      case 'search':
        return configured(terminator).search(request.ask.query, request.ask.max);
      case 'connections':
        return configured(terminator).connections(request.ask.filter, request.ask.max);
      case 'talkers':
        return configured(terminator).talkers(request.ask.by, request.ask.max);
      case 'busiest':
        return configured(terminator).busiest(request.ask.max);
      case 'destinations':
        return configured(terminator).destinations(request.ask.by, request.ask.filter, request.ask.max);
      case 'fence':
        return terminator?.fence() ?? 0;
      case 'stop':
        stop();
        return null;
    }
  };
  const control = createServer((socket) => {
    const hello: Hello = { protocol: protocolVersion, version: o.version, pid: process.pid, port: o.port, uid, log };
    converse(socket, hello, answer);
  });
  const stop = () => {
    // A signal may come as well.
    if (hasStopped) return;
    hasStopped = true;
    clearInterval(looking);
    for (const server of servers) server.close();
    if (servers.length === 0) listeners.forEach(closeFd);
    terminator?.end();
    control.close();
    rmSyncIfAllowed(o.path);
    finish(undefined);
  };
  rmSync(o.path, { force: true });
  await listenAt(control, o.path);
  return { finished, stop };
}

/** Bound and listening, of the families that this host speaks. */
function listenOn(listen: TerminatorPrivilege['listen'], port: number): readonly number[] {
  const fds: number[] = [];
  for (const address of listeningOn) {
    const fd = listen(addressToBytes(address), port, backlog);
    if (fd >= 0) fds.push(fd);
    else if (fd === -EADDRINUSE || fds.length === 0) {
      fds.forEach(closeFd);
      throw new Error(`port ${port} of ${address} cannot be listened on: ${errnoName(fd)}`);
    }
  }
  return fds;
}

function acceptOn(fd: number, accept: (socket: Socket) => void): Promise<Server> {
  // Read by nobody until the origin has answered, and open in one direction for as long as either side likes.
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, accept);
  const { promise, resolve, reject } = Promise.withResolvers<Server>();
  server.once('error', reject);
  // Where it listens on a descriptor, Node takes the backlog from here only, and would lower it without.
  server.listen({ fd }, backlog, () => {
    server.off('error', reject);
    // Out of descriptors for a moment, or a client that left early: the next one may fare better.
    server.on('error', () => {});
    resolve(server);
  });
  return promise;
}

async function listenAt(server: Server, path: string): Promise<void> {
  const mask = process.umask(0o177);
  try {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    server.once('error', reject);
    server.listen(path, () => resolve(undefined));
    await promise;
  } finally {
    process.umask(mask);
  }
  chmodSync(path, 0o600);
}

function converse(socket: Socket, hello: Hello, answer: (request: Request) => Promise<unknown>): void {
  const lines = new Lines();
  const say = (what: Hello | Reply) => {
    if (socket.writable) socket.write(`${JSON.stringify(what)}\n`);
  };
  const reply = async (line: string): Promise<void> => {
    const request = JSON.parse(line) as Request;
    try {
      say({ id: request.id, answer: await answer(request) });
    } catch (error) {
      say({ id: request.id, error: error instanceof Error ? error.message : String(error) });
    }
  };
  socket.on('error', () => {});
  socket.setEncoding('utf8');
  socket.on('data', (piece: string) => {
    try {
      for (const line of lines.take(piece)) reply(line).catch(() => socket.destroy());
    } catch {
      // Nobody who speaks this language says such things.
      socket.destroy();
    }
  });
  say(hello);
}

function configured(terminator: Terminator | undefined): Terminator {
  if (!terminator) throw new Error('it has not been told anything yet');
  return terminator;
}

/** The folder is root's, and this process may not be that any more; the agent clears up behind it then. */
function rmSyncIfAllowed(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    return;
  }
}
