/**
 * Streams that go on until they are told to end, for tests that interrupt what carries them: TCP both ways, and numbered
 * datagrams that are echoed. Run with the role as argument, told what to do over IPC; every message is answered once.
 */
import { createHash, randomBytes, type Hash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';

export type Way = 'down' | 'up';
export type StreamCommand =
  | { do: 'serve'; address: string }
  | { do: 'open'; way: Way; id: number; address: string }
  | { do: 'datagrams'; address: string; every_ms: number }
  | { do: 'finish' }
  | { do: 'report' };

export type StreamReport = Readonly<{
  streams: readonly Readonly<{
    id: number;
    way: Way;
    /** As this side sees the other one. */
    peer: string;
    bytes: number;
    hash: string;
    ended: boolean;
    error: string | null;
  }>[];
  /** Of the datagrams: the numbers that were sent, and those that came, or came back; and from where. */
  sent: number;
  numbers: readonly number[];
  peers: readonly string[];
}>;

export const ports = { down: 5_000, up: 5_001, datagrams: 5_002 } as const;
const chunkBytes = 16_384;
const every_ms = 20;
/** The most that a socket may have without privilege: some five hundred datagrams. */
const receiveBuffer_bytes = 212_992;
/** What the other side has not taken yet; more would only fill memory. */
const waitingBytes_max = 262_144;

type Stream = {
  id: number;
  way: Way;
  socket: Socket;
  peer: string;
  hash: Hash;
  bytes: number;
  sends: boolean;
  ended: boolean;
  error: string | null;
};
const streams: Stream[] = [];
const numbers = new Set<number>();
const peers = new Set<string>();
let sent = 0;
let isSending = true;

function begin(socket: Socket, id: number, way: Way, sends: boolean): Stream {
  const peer = `${socket.remoteAddress}:${socket.remotePort}`;
  const stream: Stream = {
    ...{ id, way, socket, peer, hash: createHash('sha256'), bytes: 0, sends, ended: false, error: null },
  };
  streams.push(stream);
  socket.on('error', (error) => (stream.error = error.message));
  socket.on('close', () => (stream.ended = true));
  return stream;
}

function take(stream: Stream, chunk: Buffer): void {
  stream.hash.update(chunk);
  stream.bytes += chunk.length;
}

setInterval(() => {
  for (const stream of streams) {
    if (!stream.sends || stream.socket.writableLength > waitingBytes_max) continue;
    const chunk = randomBytes(chunkBytes);
    take(stream, chunk);
    stream.socket.write(chunk);
  }
}, every_ms);

function serve(address: string): void {
  for (const way of ['down', 'up'] as const)
    createServer({ allowHalfOpen: false }, (socket) => {
      socket.once('data', (first) => {
        const stream = begin(socket, first.readUInt32BE(0), way, way === 'down');
        if (first.length > 4) take(stream, first.subarray(4));
        if (way === 'up') socket.on('data', (chunk) => take(stream, chunk));
      });
      socket.on('error', () => {});
    }).listen(ports[way], address);
  const echo = createSocket({ type: 'udp4', recvBufferSize: receiveBuffer_bytes });
  echo.on('message', (message, from) => {
    numbers.add(message.readUInt32BE(0));
    peers.add(`${from.address}:${from.port}`);
    echo.send(message, from.port, from.address);
  });
  echo.bind(ports.datagrams, address);
}

async function open(way: Way, id: number, address: string): Promise<void> {
  const socket = connect(ports[way], address);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const first = Buffer.alloc(4);
  first.writeUInt32BE(id);
  socket.write(first);
  const stream = begin(socket, id, way, way === 'up');
  if (way === 'down') socket.on('data', (chunk) => take(stream, chunk));
  else socket.resume();
}

function sendDatagrams(address: string, every: number): void {
  const socket = createSocket({ type: 'udp4', recvBufferSize: receiveBuffer_bytes });
  socket.on('message', (message) => numbers.add(message.readUInt32BE(0)));
  setInterval(() => {
    if (!isSending) return;
    const message = Buffer.alloc(64);
    message.writeUInt32BE(sent++);
    socket.send(message, ports.datagrams, address);
  }, every);
}

function finish(): void {
  isSending = false;
  for (const stream of streams) {
    if (!stream.sends) continue;
    stream.sends = false;
    stream.socket.end();
  }
}

const report = (): StreamReport => ({
  streams: streams.map(({ id, way, peer, bytes, hash, ended, error }) => ({
    ...{ id, way, peer, bytes, ended, error },
    hash: hash.copy().digest('hex'),
  })),
  sent,
  numbers: [...numbers],
  peers: [...peers],
});

async function carryOut(command: StreamCommand): Promise<unknown> {
  switch (command.do) {
    case 'serve':
      serve(command.address);
      return null;
    case 'open':
      return open(command.way, command.id, command.address);
    case 'datagrams':
      sendDatagrams(command.address, command.every_ms);
      return null;
    case 'finish':
      finish();
      return null;
    case 'report':
      return report();
  }
}

process.on('message', (command: StreamCommand) => {
  void carryOut(command).then(
    (value) => process.send?.({ value }),
    (error: unknown) => process.send?.({ error: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
process.send?.({ value: 'ready' });
