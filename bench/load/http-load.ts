/**
 * A load of HTTP requests, in a process of its own: `connections` sockets, each with one request under way. Raw sockets
 * and a parser of just the answers that the servers under test give: the load shares two cores with the server, and every
 * microsecond that it takes is missing there.
 */
import { connect, type Socket } from 'node:net';

export type Job = Readonly<{
  host: string;
  port: number;
  connections: number;
  requests: number;
  path: string;
  /** Header lines beside host, content type and length; a key of its own for each request where `isKeyed`. */
  headers: Readonly<Record<string, string>>;
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

const pace_ms = 2;
const headEnd = Buffer.from('\r\n\r\n');

function run(job: Job): Promise<LoadResult> {
  const { promise, resolve, reject } = Promise.withResolvers<LoadResult>();
  const latencies: number[] = [];
  const keyPrefix = crypto.randomUUID();
  const head = [
    `POST ${job.path} HTTP/1.1`,
    `host: ${job.host}`,
    'content-type: application/json',
    ...Object.entries(job.headers).map(([name, value]) => `${name}: ${value}`),
  ].join('\r\n');
  const tails = job.bodies.map((body) => `\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  const sockets: Socket[] = [];
  const idle: (() => void)[] = [];
  let sent = 0;
  let began = 0;

  const fail = (error: Error) => {
    for (const socket of sockets) socket.destroy();
    reject(error);
  };
  const send = (socket: Socket) => {
    const key = job.isKeyed ? `\r\nidempotency-key: ${keyPrefix}-${sent}` : '';
    socket.write(`${head}${key}${tails[sent++ % tails.length] ?? ''}`);
  };
  const attend = (socket: Socket) => {
    let received: Buffer | undefined;
    let askedAt = 0;
    const ask = () => {
      askedAt = performance.now();
      send(socket);
    };
    socket.on('data', (data: Buffer) => {
      received = received === undefined ? data : Buffer.concat([received, data]);
      const bodyAt = received.indexOf(headEnd) + headEnd.length;
      if (bodyAt < headEnd.length) return;
      const answered = received.toString('latin1', 0, bodyAt);
      const length = /content-length: (\d+)/i.exec(answered)?.[1];
      if (length === undefined) {
        fail(new Error(`an answer without a length: ${answered}`));
        return;
      }
      if (received.length < bodyAt + Number(length)) return;
      if (Number(answered.slice(9, 12)) !== job.expectStatus) {
        fail(new Error(`answered with ${received.toString()}`));
        return;
      }
      received = undefined;
      latencies.push(performance.now() - askedAt);
      if (sent < job.requests) {
        if (job.perSecond === null) ask();
        else idle.push(ask);
      } else if (latencies.length === job.requests) {
        for (const other of sockets) other.destroy();
        resolve({ seconds: (performance.now() - began) / 1_000, latencies });
      }
    });
    return ask;
  };

  /** So many a second, whatever the answers take; a connection that still waits for one is passed over. */
  const pace = (asks: readonly (() => void)[], perSecond: number) => {
    idle.push(...asks);
    const timer = setInterval(() => {
      const due = Math.min(job.requests, ((performance.now() - began) / 1_000) * perSecond);
      while (sent < due) {
        const ask = idle.shift();
        if (!ask) break;
        ask();
      }
      if (sent >= job.requests) clearInterval(timer);
    }, pace_ms);
  };

  let connected = 0;
  const asks: (() => void)[] = [];
  for (let index = 0; index < Math.min(job.connections, job.requests); index++) {
    const socket = connect({ host: job.host, port: job.port, noDelay: true });
    sockets.push(socket);
    socket.on('error', fail);
    socket.on('close', () => {
      if (latencies.length < job.requests) fail(new Error('the server closed a connection'));
    });
    asks.push(attend(socket));
    socket.on('connect', () => {
      if (++connected < asks.length) return;
      began = performance.now();
      if (job.perSecond === null) for (const ask of asks) ask();
      else pace(asks, job.perSecond);
    });
  }
  return promise;
}

const reply = (message: Reply) => process.send?.(message);

process.on('message', (job: Job) => {
  run(job).then(
    (result) => reply({ result }),
    (error: unknown) => reply({ error: error instanceof Error ? error.message : String(error) }),
  );
});
