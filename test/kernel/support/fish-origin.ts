/**
 * What a client may want of an origin: a file (or `?bytes=N` of it), somebody who takes one, and somebody who answers datagrams.
 * Each tells, or remembers, which source it saw. Arguments: the address, and the file's size in bytes.
 */
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';

const [address = '', bytes = '0'] = process.argv.slice(2);
// Not all the same, so that a block lost, doubled or moved shows in the hash.
const file = Buffer.alloc(Number(bytes));
for (let at = 0, word = 1; at + 4 <= file.length; at += 4) {
  word = (Math.imul(word, 1_664_525) + 1_013_904_223) | 0;
  file.writeInt32LE(word, at);
}
const sha256Of = (part: Buffer) => createHash('sha256').update(part).digest('hex');
const sha256 = sha256Of(file);
const seen = new Set<string>();

createServer((request, response) => {
  const source = `${request.socket.remoteAddress}:${request.socket.remotePort}`;
  const { pathname, searchParams } = new URL(request.url ?? '/', `http://${request.headers.host}`);
  const asked = searchParams.get('bytes');
  const part = asked === null ? file : file.subarray(0, Number(asked));
  if (pathname !== '/seen') seen.add(source);
  if (request.method === 'POST') {
    const hash = createHash('sha256');
    request.on('data', (chunk: Buffer) => hash.update(chunk));
    request.on('end', () => response.end(JSON.stringify({ sha256: hash.digest('hex'), source })));
  } else if (pathname === '/file') response.end(part);
  else if (pathname === '/sha256') response.end(asked === null ? sha256 : sha256Of(part));
  else if (pathname === '/seen') response.end(JSON.stringify([...seen]));
  else response.end(source);
}).listen(80, address);

const datagrams = createSocket(address.includes(':') ? 'udp6' : 'udp4');
datagrams.on('message', (message, from) => {
  seen.add(`${from.address}:${from.port}`);
  datagrams.send(`${message.toString()} ${from.address}:${from.port}`, from.port, from.address);
});
datagrams.bind(53, address, () => console.log('ready'));
