/**
 * Somebody who takes a local port that may be another's. Says in one line of JSON how far it came: each call that was
 * made, with its errno, and whom the origin saw if it got through.
 *
 *     stranger.ts udp|late|explicit ADDRESS PORT REMOTE REMOTE_PORT NAME
 *
 * udp: bind() to the port, then ask the name server. late: the port is taken in connect(). explicit: bind() with
 * SO_REUSEADDR, then connect(), as HAProxy does. NAME is what it calls itself in what it sends.
 */
import { createSocket } from 'node:dgram';
import { Socket } from 'node:net';
import { parseAddress, addressToBytes } from '../../src/net/address.ts';
import { errnoName } from '../../src/sys/errno.ts';
import { prepareSocket } from '../../src/sys/late-socket.ts';

/** How long a stranger waits for an answer before it says that there is none. */
const patienceMs = 1_500;

export type StrangerSaid = Readonly<{
  bind: string;
  connect: string | null;
  localPort: number | null;
  /** Address and port as the origin saw them. */
  seenAs: string | null;
}>;

const [how = '', address = '', port = '', remote = '', remotePort = '', who = 'stranger'] = process.argv.slice(2);
const said = (what: Partial<StrangerSaid>): never => {
  console.log(JSON.stringify({ bind: 'ok', connect: null, localPort: null, seenAs: null, ...what }));
  process.exit(0);
};
/** The text of a TXT answer is the end of the message, behind its length. */
const textIn = (answer: Buffer) => /[\d.]+:\d+$/.exec(answer.toString('latin1'))?.[0] ?? '';
const codeOf = (error: NodeJS.ErrnoException) => error.code ?? error.message;

if (how === 'udp') {
  const socket = createSocket('udp4');
  socket.on('error', (error) => said({ bind: codeOf(error) }));
  socket.on('message', (answer) => said({ connect: 'ok', localPort: Number(port), seenAs: textIn(answer) }));
  socket.bind({ port: Number(port), address, exclusive: true }, () => {
    const name = [who.length, ...Buffer.from(who), 4, ...Buffer.from('demo'), 0];
    const query = Uint8Array.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, 16, 0, 1]);
    socket.send(query, Number(remotePort), remote, (error) => {
      if (error) said({ connect: codeOf(error), localPort: Number(port) });
    });
    setTimeout(() => said({ connect: 'no answer', localPort: Number(port) }), patienceMs);
  });
} else {
  const parsed = parseAddress(address);
  if (!parsed.ok) throw new Error(parsed.error);
  const ports = { first: Number(port), last: Number(port) };
  const binding = how === 'late' ? 'late' : 'explicit';
  const fd = prepareSocket({ address: addressToBytes(parsed.value), ports, binding, port: Number(port) });
  if (fd < 0) said({ bind: errnoName(fd) });
  const options = { fd, manualStart: true };
  const socket = new Socket(options);
  let heard = '';
  const localPort = () => socket.localPort ?? null;
  socket.on('error', (error) => said({ connect: codeOf(error) }));
  socket.on('connect', () => socket.write(`GET /peer?from=${who}; HTTP/1.0\r\n\r\n`));
  socket.on('data', (data) => (heard += data.toString()));
  socket.on('end', () =>
    said({ connect: 'ok', localPort: localPort(), seenAs: heard.trim().split('\n').at(-1) ?? '' }),
  );
  socket.connect({ host: remote, port: Number(remotePort) });
  setTimeout(() => said({ connect: 'no answer', localPort: localPort() }), patienceMs);
}
