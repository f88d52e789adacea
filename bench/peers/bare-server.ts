/**
 * What the server's grants are held against: the same Fastify, the same route and the same queue, which answers all that
 * arrived together at once, but no token, no schema, no rules and no database. Whatever a grant costs beyond this is ours.
 */
import fastify from 'fastify';
import type { AddressInfo } from 'node:net';

type Waiting = Readonly<{ claims: number; resolve: (leases: readonly object[]) => void }>;

const lease = {
  id: 'lease-18423',
  token: '1.1.18423',
  session: 'session-12',
  machine: 'bench',
  holder: 'proxy',
  slice: 'slice-13',
  pool: 'bench',
  address: '100.64.0.1',
  protocol: 'tcp',
  ports: { first: 2047, last: 2047 },
  mode: 'exclusive',
  binding: null,
  state: 'active',
  ending: null,
  refusal: null,
  granted_at: '2026-11-23T09:00:00.000000Z',
  active_at: '2026-11-23T09:00:00.000000Z',
  ending_at: null,
  reusable_at: null,
  ended_at: null,
  revision: 18_423,
};

let waiting: Waiting[] = [];
const enqueue = (claims: number): Promise<readonly object[]> =>
  new Promise((resolve) => {
    waiting.push({ claims, resolve });
    if (waiting.length === 1) setImmediate(answer);
  });

function answer(): void {
  const batch = waiting;
  waiting = [];
  for (const { claims, resolve } of batch) resolve(Array.from({ length: claims }, () => lease));
}

const app = fastify({ logger: false });
app.post<{ Body: { claims: readonly Readonly<{ count?: number }>[] } }>('/v1/leases', async (request, reply) => {
  const leases = await enqueue(request.body.claims.reduce((sum, { count = 1 }) => sum + count, 0));
  return reply.code(201).send({ leases, revision: 18_423 });
});
await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`listening   http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
