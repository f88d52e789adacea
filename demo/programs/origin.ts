/**
 * The destination of everything in the demo: a web server and a name server that tell visitors whom they see.
 *
 *     /file                  the file, `fileBytes` long
 *     /drip?kib=K&every_ms=E the file's beginning, 16 KiB every E ms, K KiB in all
 *     /slow?ms=M             an answer after M ms, so that many connections stand at the same time
 *     /sha256?bytes=N        of the file's first N bytes
 *     /peer                  address and port that this server sees
 *     any name, A            203.0.113.53
 *     any name, TXT          address and port that this server sees
 *
 * Says on its standard output, in one line of JSON, that it is ready. A line `mark WORD` on its standard input makes it
 * send a broadcast with that word, by which a reader of the capture knows that it has seen everything up to there.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerTo, questionIn } from '../dns.ts';
import { addresses } from '../lab.ts';

const fileBytes = 50_000_000;
const dripBytes = 16 * 1024;
const file = randomBytes(fileBytes);
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function drip(response: ServerResponse, bytes: number, everyMs: number): Promise<void> {
  const part = file.subarray(0, bytes);
  response.writeHead(200, { 'content-length': bytes });
  for (let at = 0; at < bytes && !response.destroyed; at += dripBytes) {
    response.write(part.subarray(at, at + dripBytes));
    await sleep(everyMs);
  }
  response.end();
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://origin');
  const number = (name: string) => Number(url.searchParams.get(name) ?? 0);
  const peer = `${request.socket.remoteAddress}:${request.socket.remotePort}`;
  response.on('error', () => undefined);
  if (url.pathname === '/file') response.writeHead(200, { 'content-length': fileBytes, 'x-peer': peer }).end(file);
  else if (url.pathname === '/drip') void drip(response, number('kib') * 1024, number('every_ms'));
  else if (url.pathname === '/slow') setTimeout(() => response.end(`${peer}\n`), number('ms'));
  else if (url.pathname === '/sha256') response.end(`${sha256(file.subarray(0, number('bytes')))}\n`);
  else if (url.pathname === '/peer') response.end(`${peer}\n`);
  else response.writeHead(404).end();
}

for (const address of [addresses.origin, addresses.otherOrigin]) {
  for (const port of [80, addresses.otherPort]) {
    const web = createServer(answer).listen(port, address);
    await once(web, 'listening');
  }
  const names = createSocket('udp4');
  names.on('message', (query, from) => {
    const question = questionIn(query);
    if (question)
      names.send(answerTo(query, question, '203.0.113.53', `${from.address}:${from.port}`), from.port, from.address);
  });
  names.bind(53, address);
  await once(names, 'listening');
}

const marker = createSocket('udp4').bind(0, addresses.originLink);
await once(marker, 'listening');
marker.setBroadcast(true);
createInterface({ input: process.stdin }).on('line', (line) => {
  const [, word] = /^mark (\S+)$/.exec(line) ?? [];
  if (word !== undefined) marker.send(word, addresses.markerPort, addresses.broadcast);
});

console.log(JSON.stringify({ ready: true, bytes: fileBytes, sha256: sha256(file) }));
