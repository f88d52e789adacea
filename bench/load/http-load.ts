/**
 * A load of HTTP requests in a process of its own, by the HTTP client that Node.js itself is built on: `connections` of
 * them, each with one request under way, and every answer read as JSON, as somebody who uses the server would.
 */
import { Pool } from 'undici';

export type Job = Readonly<{
  origin: string;
  /** Of a server on a Unix socket, whose `origin` means nothing then. */
  socketPath?: string;
  /** Whom the load becomes, for good, where it is root. */
  uid?: number;
  connections: number;
  requests: number;
  path: string;
  headers: Readonly<Record<string, string>>;
  /** Each request has an idempotency key of its own. */
  isKeyed: boolean;
  /** Sent in turn, over and over. */
  bodies: readonly string[];
  /** How many are sent in a second; null: each connection sends its next as soon as it has an answer. */
  perSecond: number | null;
  expectStatus: number;
}>;

/** Latencies in milliseconds, one for each request; `seconds` from the first request to the last answer. */
export type LoadResult = Readonly<{ seconds: number; latencies: readonly number[] }>;
export type Reply = Readonly<{ result: LoadResult }> | Readonly<{ error: string }>;

async function run(job: Job): Promise<LoadResult> {
  const { socketPath, uid } = job;
  if (uid !== undefined && process.getuid?.() === 0) process.setuid?.(uid);
  const pool = new Pool(job.origin, { connections: job.connections, ...(socketPath !== undefined && { socketPath }) });
  const latencies: number[] = [];
  const keyPrefix = crypto.randomUUID();
  let sent = 0;
  const ask = async () => {
    const turn = sent++;
    const key = job.isKeyed ? { 'idempotency-key': `${keyPrefix}-${turn}` } : {};
    const askedAt = performance.now();
    const { statusCode, body } = await pool.request({
      ...{ method: 'POST', path: job.path },
      headers: { 'content-type': 'application/json', ...job.headers, ...key },
      body: job.bodies[turn % job.bodies.length] ?? '',
    });
    const answer = await body.json();
    latencies.push(performance.now() - askedAt);
    if (statusCode !== job.expectStatus) throw new Error(`answered with ${statusCode}: ${JSON.stringify(answer)}`);
  };
  const began = performance.now();
  if (job.perSecond === null)
    await Promise.all(
      Array.from({ length: job.connections }, async () => {
        while (sent < job.requests) await ask();
      }),
    );
  else await paced(job.requests, job.perSecond, ask);
  const seconds = (performance.now() - began) / 1_000;
  await pool.close();
  return { seconds, latencies };
}

const pace_ms = 2;

/** So many a second, whatever the answers take. */
async function paced(requests: number, perSecond: number, ask: () => Promise<void>): Promise<void> {
  const asked: Promise<void>[] = [];
  const began = performance.now();
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const timer = setInterval(() => {
    const due = Math.min(requests, ((performance.now() - began) / 1_000) * perSecond);
    while (asked.length < due) asked.push(ask());
    if (asked.length < requests) return;
    clearInterval(timer);
    resolve(undefined);
  }, pace_ms);
  await promise;
  await Promise.all(asked);
}

const reply = (message: Reply) => process.send?.(message);

process.on('message', (job: Job) => {
  run(job).then(
    (result) => reply({ result }),
    (error: unknown) => reply({ error: error instanceof Error ? error.message : String(error) }),
  );
});
