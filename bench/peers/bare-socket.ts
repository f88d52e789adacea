/**
 * A route over a Unix socket and nothing behind it: reads a JSON body, and answers one as long as a granted lease. What an
 * answer of a broker costs beyond this is everything that it does. Argument: the path of the socket.
 */
import { chmodSync } from 'node:fs';
import { createServer } from 'node:http';
import { leaseAt } from '../agent/desired.ts';

const [path = ''] = process.argv.slice(2);
const body = JSON.stringify({ leases: [leaseAt(0)], revision: 1 });
const server = createServer((request, response) => {
  let text = '';
  request.on('data', (chunk: Buffer) => (text += chunk.toString()));
  request.on('end', () => {
    JSON.parse(text);
    response.writeHead(201, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    response.end(body);
  });
});
server.listen(path, () => {
  chmodSync(path, 0o666);
  console.log(`listening   unix:${path}`);
});
