import { createServer, connect, type Server } from 'node:net';
import { err, ok, type Result } from '../net/result.ts';

/**
 * One agent per host: a socket in the abstract namespace, which belongs to the network namespace as rules and nftables
 * do, and which the kernel takes away with its process. No file can be left behind.
 */
const lockName = '\0fishery-agent';
const answer_timeout_ms = 1_000;

export type Lock = Readonly<{ release: () => Promise<void> }>;

/** The error says who has it, in one line for people. */
export async function takeLock(what: string, name: string = lockName): Promise<Result<Lock, string>> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`${what}, process ${process.pid}`);
  });
  const outcome = await listen(server, name);
  if (outcome === 'ok') return ok({ release: () => new Promise((resolve) => server.close(() => resolve())) });
  if (outcome !== 'EADDRINUSE') return err(`the lock of this host cannot be taken: ${outcome}`);
  return err(`an agent is at work on this host already (${await whoHas(name)}): stop it first`);
}

function listen(server: Server, name: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  server.listen(name, () => resolve('ok'));
  // The lock alone keeps no process alive.
  server.unref();
  return promise;
}

function whoHas(name: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect(name);
  let text = '';
  socket.setTimeout(answer_timeout_ms, () => socket.destroy(new Error('it does not answer')));
  socket.on('data', (chunk) => (text += chunk.toString()));
  socket.on('end', () => resolve(text));
  socket.on('error', (error) => resolve(error.message));
  return promise;
}
