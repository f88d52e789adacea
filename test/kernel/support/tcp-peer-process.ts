/**
 * One end of TCP connections, which does what it is told over IPC: connects, listens, writes so many bytes, ends its direction,
 * resets, stops reading. Every socket has a number; what is known of it comes with `tell`. Requests are {id, request}, answers
 * {id, value}.
 */
import { connect, createServer, type Socket } from 'node:net';

export type PeerRequest = Readonly<
  | { do: 'listen'; on: string; port: number; reads: boolean }
  | { do: 'connect'; to: string; port: number }
  | { do: 'write'; socket: number; text?: string; bytes?: number }
  | { do: 'end' | 'reset' | 'read' | 'stopReading' | 'tell'; socket: number }
  /** The sockets that were accepted so far. */
  | { do: 'accepted' }
>;

export type PeerState = Readonly<{
  remote: string;
  local: string;
  text: string;
  received: number;
  /** Taken by the kernel, as far as Node knows. */
  waiting: number;
  connected: boolean;
  ended: boolean;
  closed: boolean;
  error: string | null;
}>;

type Known = { -readonly [Key in keyof PeerState]: PeerState[Key] } & { socket: Socket };

const sockets: Known[] = [];
const accepted: number[] = [];
const text_chars_max = 4_096;

function know(socket: Socket): number {
  const known: Known = {
    socket,
    remote: `${socket.remoteAddress} ${socket.remotePort}`,
    local: '',
    text: '',
    received: 0,
    waiting: 0,
    connected: !socket.connecting,
    ended: false,
    closed: false,
    error: null,
  };
  const name = () => (known.local = `${socket.localAddress} ${socket.localPort}`);
  if (known.connected) name();
  socket.on('connect', () => {
    known.connected = true;
    name();
  });
  socket.on('data', (chunk: Buffer) => {
    known.received += chunk.length;
    if (known.text.length < text_chars_max) known.text += chunk.toString('latin1');
  });
  socket.on('end', () => (known.ended = true));
  socket.on('close', () => (known.closed = true));
  socket.on('error', (error) => (known.error = 'code' in error ? String(error.code) : error.message));
  return sockets.push(known) - 1;
}

function at(number: number): Known {
  const known = sockets[number];
  if (!known) throw new Error(`there is no socket ${number}`);
  return known;
}

async function carryOut(request: PeerRequest): Promise<unknown> {
  switch (request.do) {
    case 'listen': {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        accepted.push(know(socket));
        if (!request.reads) socket.pause();
      });
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(request.port, request.on, resolve);
      });
      return null;
    }
    case 'connect':
      return know(connect({ host: request.to, port: request.port, allowHalfOpen: true }));
    case 'write':
      at(request.socket).socket.write(request.text ?? Buffer.alloc(request.bytes ?? 0, 'x'));
      return null;
    case 'end':
      at(request.socket).socket.end();
      return null;
    case 'reset':
      at(request.socket).socket.resetAndDestroy();
      return null;
    case 'read':
      at(request.socket).socket.resume();
      return null;
    case 'stopReading':
      at(request.socket).socket.pause();
      return null;
    case 'tell': {
      const { socket, ...state } = at(request.socket);
      return { ...state, waiting: socket.writableLength };
    }
    case 'accepted':
      return accepted;
  }
}

process.on('message', (message) => {
  const { id, request } = message as { id: number; request: PeerRequest };
  void carryOut(request).then((value) => process.send?.({ id, value }));
});
process.on('disconnect', () => process.exit());
process.send?.({ id: 0, value: null });
