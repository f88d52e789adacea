/**
 * Somebody on a host: a process with a user id of its own that opens sockets when the test says so, over IPC. Arguments:
 * the user id. Requests are {id, op, …}, answers {id, value}; a refusal is its errno as text.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { request as httpRequest } from 'node:http';
import { connect, createServer, Socket, type Server } from 'node:net';
import { addressToBytes, parseAddress } from '../../../src/net/address.ts';
import { AF_INET, AF_INET6, SOCK_RAW } from '../../../src/sys/constants.ts';
import { errnoName } from '../../../src/sys/errno.ts';
import { prepareSocket } from '../../../src/sys/late-socket.ts';
import { libc } from '../../../src/sys/libc.ts';
import { sockaddrOf } from '../../../src/sys/sockaddr.ts';

export type UserRequest = Readonly<
  | { op: 'connect'; from: string; port: number; to: string; toPort: number; timeout_ms: number }
  | { op: 'late'; from: string; first: number; last: number; to: string; toPort: number; timeout_ms: number }
  | { op: 'listen'; on: string; port: number }
  | { op: 'echo'; on: string; port: number }
  | { op: 'udp'; from: string; port: number; to: string; toPort: number; timeout_ms: number; bytes?: number }
  | { op: 'raw'; family: 'inet' | 'inet6' | 'packet'; packet: string; to: string }
  | { op: 'talk'; socket: string; every_ms: number }
  | { op: 'say'; socket: string; text: string }
  | { op: 'heard'; socket: string }
  | { op: 'close'; socket: string }
  /** Asks the broker of this host, and returns its status and its body as JSON. */
  | { op: 'ask'; broker: string; path: string; body: object }
>;

const uid = Number(process.argv[2]);
if (uid !== 0) {
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
}

const sockets = new Map<string, Socket | Server | UdpSocket>();
const heard = new Map<string, string>();
let opened = 0;

function keep(socket: Socket | Server | UdpSocket): string {
  const name = `socket-${++opened}`;
  sockets.set(name, socket);
  socket.on('error', () => {});
  return name;
}

/** How the datagrams of a socket are sent again. */
const sendTo = new Map<string, () => void>();

const localOf = ({ from, port }: { from: string; port: number }) => ({ localAddress: from, localPort: port });

/** The port is taken in connect(), as late binders do it. */
function connectLate(o: { from: string; first: number; last: number; to: string; toPort: number }): Socket {
  const parsed = parseAddress(o.from);
  if (!parsed.ok) throw new Error(parsed.error);
  const fd = prepareSocket({
    ...{ address: addressToBytes(parsed.value), ports: { first: o.first, last: o.last }, binding: 'late' },
  });
  if (fd < 0) throw new Error(`no socket: ${fd}`);
  return new Socket({ fd, ...{ manualStart: true } }).connect({ host: o.to, port: o.toPort });
}

/** A packet of which every byte is ours (IPPROTO_RAW), or on a link (ETH_P_ALL); hexadecimal. */
function sendRaw({ family, packet, to }: { family: 'inet' | 'inet6' | 'packet'; packet: string; to: string }): string {
  const c = libc();
  const [domain, protocol] = { inet: [AF_INET, 255], inet6: [AF_INET6, 255], packet: [17, 0x0300] }[family] as [
    number,
    number,
  ];
  const fd = c.socket(domain, SOCK_RAW, protocol);
  if (fd < 0) return errnoName(c.errno());
  const parsed = parseAddress(to);
  if (!parsed.ok) throw new Error(parsed.error);
  const peer = sockaddrOf(addressToBytes(parsed.value), 0);
  const bytes = Buffer.from(packet, 'hex');
  const sent = c.connect(fd, peer, peer.length) < 0 ? -1 : c.send(fd, bytes, bytes.length, 0);
  const outcome = sent < 0 ? errnoName(c.errno()) : 'sent';
  c.close(fd);
  return outcome;
}

const codeOf = (error: Error): string => ('code' in error ? String(error.code) : error.message);

async function serve(request: UserRequest): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  switch (request.op) {
    case 'late':
    case 'connect': {
      const { to, toPort, timeout_ms } = request;
      const socket =
        request.op === 'late' ? connectLate(request) : connect({ host: to, port: toPort, ...localOf(request) });
      const timer = setTimeout(() => {
        socket.destroy();
        resolve('TIMEOUT');
      }, timeout_ms);
      socket.once('error', (error) => resolve(codeOf(error)));
      socket.once('connect', () => {
        clearTimeout(timer);
        const name = keep(socket);
        socket.on('data', (chunk) => heard.set(name, (heard.get(name) ?? '') + chunk.toString()));
        resolve(name);
      });
      break;
    }
    case 'echo':
    case 'listen': {
      const echoes = request.op === 'echo';
      const server = createServer((socket) => {
        socket.on('error', () => {});
        if (echoes) socket.on('data', (chunk) => socket.write(chunk));
        else socket.resume();
      });
      server.once('error', (error) => resolve(codeOf(error)));
      server.listen(request.port, request.on, () => resolve(keep(server)));
      break;
    }
    case 'udp': {
      const socket = createSocket(request.from.includes(':') ? 'udp6' : 'udp4');
      socket.once('error', (error) => resolve(codeOf(error)));
      socket.bind(request.port, request.from, () => {
        const name = keep(socket);
        sendTo.set(name, () => socket.send('ping', request.toPort, request.to));
        const timer = setTimeout(() => resolve('TIMEOUT'), request.timeout_ms);
        socket.on('message', (message, peer) => {
          clearTimeout(timer);
          heard.set(name, message.toString());
          if (request.to === '') socket.send(message, peer.port, peer.address);
          resolve(name);
        });
        if (request.to === '') {
          resolve(name);
          return;
        }
        const message = request.bytes === undefined ? 'ping' : 'x'.repeat(request.bytes);
        socket.send(message, request.toPort, request.to, (error) => error && resolve(codeOf(error)));
      });
      break;
    }
    case 'raw':
      resolve(sendRaw(request));
      break;
    case 'talk': {
      const socket = sockets.get(request.socket);
      const say =
        socket && 'write' in socket
          ? () => {
              if (socket.writable) socket.write('x');
            }
          : sendTo.get(request.socket);
      if (say) setInterval(say, request.every_ms);
      resolve(say ? 'talks' : 'NONE');
      break;
    }
    case 'say': {
      const socket = sockets.get(request.socket);
      if (!socket || !('write' in socket)) resolve('NONE');
      else socket.write(request.text, (error) => resolve(error ? codeOf(error) : 'said'));
      break;
    }
    case 'ask': {
      const headers = { 'content-type': 'application/json' };
      const call = httpRequest(
        { socketPath: request.broker, path: request.path, method: 'POST', headers },
        (response) => {
          let text = '';
          response.on('data', (chunk: Buffer) => (text += chunk.toString()));
          response.on('end', () =>
            resolve(JSON.stringify({ status: response.statusCode, body: JSON.parse(text) as unknown })),
          );
        },
      );
      call.once('error', (error) => resolve(JSON.stringify({ status: 0, body: codeOf(error) })));
      call.end(JSON.stringify(request.body));
      break;
    }
    case 'heard':
      resolve(heard.get(request.socket) ?? '');
      break;
    case 'close': {
      const socket = sockets.get(request.socket);
      sockets.delete(request.socket);
      if (!socket) resolve('NONE');
      else if ('destroy' in socket) {
        socket.once('close', () => resolve('closed'));
        socket.end();
        socket.destroySoon();
      } else socket.close(() => resolve('closed'));
    }
  }
  return promise;
}

process.on('message', (message) => {
  const { id, request } = message as { id: number; request: UserRequest };
  void serve(request).then((value) => process.send?.({ id, value }));
});
process.on('disconnect', () => process.exit());
process.send?.({ id: 0, value: 'ready' });
