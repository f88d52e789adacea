/** What the agent talks to: a server that has made up its mind, in the host's namespace, told what to say over IPC. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { desiredOf, leaseAt } from './desired.ts';

/** `start`: so many leases. `grant`: one more, the answer is how long it took to be told active, in milliseconds. */
export type ToServer = Readonly<{ do: 'start'; leases: number } | { do: 'grant' | 'release'; index: number }>;
export type FromServer = Readonly<{ port: number } | { active: number } | { took_ms: number }>;

const fence_s = 3_600;
let revision = 1_000_000;
let count = 0;
const active = new Set<string>();
let stream: ServerResponse | undefined;
let waiting: Readonly<{ lease: string; state: string; since: number }> | undefined;

const say = (message: FromServer) => process.send?.(message);

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return JSON.parse(Buffer.concat(pieces).toString());
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://server');
  const json = (body: unknown) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  if (pathname.endsWith('/desired'))
    json(
      desiredOf(
        Array.from({ length: count }, (_, index) => leaseAt(index)),
        revision,
      ),
    );
  else if (pathname.endsWith('/watch')) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
    stream = response;
  } else if (pathname.endsWith('/keepalive')) {
    await bodyOf(request);
    json({ epoch: 'bench', revision, fence_s, now: new Date().toISOString() });
  } else if (pathname.endsWith('/applied')) {
    const { leases } = (await bodyOf(request)) as { leases: readonly { lease: string; state: string }[] };
    const now = performance.now();
    json({ revision, rejected: [] });
    for (const { lease, state } of leases) {
      if (state === 'active') active.add(lease);
      if (waiting?.lease !== lease || waiting.state !== state) continue;
      say({ took_ms: now - waiting.since });
      waiting = undefined;
    }
    say({ active: active.size });
  } else {
    response.writeHead(404);
    response.end();
  }
}

function change(index: number, state: 'pending' | 'ending'): void {
  revision++;
  const lease = leaseAt(index, { state, ending: state === 'ending' ? 'released' : null, revision });
  const data = { kind: 'lease', revision, at: lease.granted_at, lease };
  waiting = { lease: lease.id, state: state === 'pending' ? 'active' : 'empty', since: performance.now() };
  stream?.write(`event: change\nid: ${revision}\ndata: ${JSON.stringify(data)}\n\n`);
}

const server = createServer((request, response) => void answer(request, response));
process.on('message', (message) => {
  const told = message as ToServer;
  if (told.do !== 'start') {
    change(told.index, told.do === 'grant' ? 'pending' : 'ending');
    return;
  }
  count = told.leases;
  server.listen(0, '127.0.0.1', () => say({ port: (server.address() as AddressInfo).port }));
});
process.on('disconnect', () => process.exit());
setInterval(() => stream?.write(': there\n\n'), 5_000);
