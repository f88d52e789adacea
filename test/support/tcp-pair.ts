import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** What the other end of a connection has heard. */
export type Heard = { text: string; received: number; ended: boolean; closed: boolean; error: string | null };

export type TcpPair = Readonly<{
  /** As the terminator has them: accepted, paused, open in one direction for as long as either side likes. */
  near: Socket;
  far: Socket;
  /** Of `far`. */
  heard: Readonly<Heard>;
}>;

/** A TCP connection of this host to itself. */
export async function tcpPair(): Promise<TcpPair> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const far = connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  const [near] = (await once(server, 'connection')) as [Socket];
  if (far.connecting) await once(far, 'connect');
  server.close();
  return { near, far, heard: hearing(far) };
}

/** Reads all that comes. */
export function hearing(far: Socket): Heard {
  const heard: Heard = { text: '', received: 0, ended: false, closed: false, error: null };
  far
    .on('data', (chunk: Buffer) => {
      heard.received += chunk.length;
      if (heard.text.length < 100) heard.text += chunk.toString('latin1', 0, 100);
    })
    .on('end', () => (heard.ended = true))
    .on('close', () => (heard.closed = true))
    .on('error', (error: NodeJS.ErrnoException) => (heard.error = error.code ?? error.message));
  return heard;
}
