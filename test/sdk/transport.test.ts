import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { FisheryClient, isFisheryError, type FisheryError } from '../../src/sdk/index.ts';
import { hangUp, inTurn, json, problem, ScriptedServer, silence } from '../support/scripted-server.ts';

const clientOf = (url: string, more: Partial<ConstructorParameters<typeof FisheryClient>[0]> = {}) =>
  new FisheryClient({ url, token: 'secret', timeoutMs: 2_000, random: () => 0, ...more });

/** A port that nobody listens on: taken and given back. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

const failureOf = async (call: Promise<unknown>): Promise<FisheryError> => {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isFisheryError(error)) throw new Error('expected a FisheryError', { cause: error });
  return error;
};

describe('a call to the server', () => {
  it('carries the token and asks for JSON', async () => {
    await using server = await ScriptedServer.start(json({ id: 'p' }));
    await clientOf(server.url).pools.get('p');
    expect(server.seen[0]?.headers).toMatchObject({
      authorization: 'Bearer secret',
      accept: 'application/json, application/problem+json',
    });
  });

  it('keeps the path of a server behind a prefix', async () => {
    await using server = await ScriptedServer.start(json({}));
    await clientOf(`${server.url}/fishery/`).pools.get('p');
    expect(server.seen[0]?.path).toBe('/fishery/v1/pools/p');
  });

  it('turns a problem document into an error with its code', async () => {
    await using server = await ScriptedServer.start(problem(409, 'block_taken'));
    const error = await failureOf(clientOf(server.url).sessions.open({ machine: 'm', holder: 'h' }));
    expect(error).toMatchObject({ status: 409, code: 'block_taken', retryable: false });
    expect(error.problem?.detail).toBe('the detail of block_taken');
    expect(error.message).toContain('/v1/sessions: 409 block_taken: the detail of block_taken');
  });

  it('tells an answer that Fishery does not give from one that it gives', async () => {
    await using server = await ScriptedServer.start((_request, response) => {
      response.writeHead(404, { 'content-type': 'text/html' }).end('<h1>nginx</h1>');
    });
    expect(await failureOf(clientOf(server.url).pools.get('p'))).toMatchObject({
      status: 404,
      code: 'unreadable_answer',
      problem: null,
    });
    server.answer = (_request, response) => response.writeHead(200).end('hello');
    expect(await failureOf(clientOf(server.url).pools.get('p'))).toMatchObject({
      status: 200,
      code: 'unreadable_answer',
      retryable: false,
    });
  });

  it('does not follow a redirect with the token', async () => {
    await using server = await ScriptedServer.start((request, response) => {
      if (request.path === '/v1/pools/p') response.writeHead(307, { location: '/elsewhere' }).end();
      else json({})(request, response);
    });
    await failureOf(clientOf(server.url, { attemptsMax: 1 }).pools.get('p'));
    expect(server.seen.map(({ path }) => path)).toEqual(['/v1/pools/p']);
  });

  it('says that no answer came in time', async () => {
    await using server = await ScriptedServer.start(silence);
    const error = await failureOf(clientOf(server.url, { timeoutMs: 50, attemptsMax: 1 }).pools.get('p'));
    expect(error).toMatchObject({ status: null, code: 'timeout', retryable: true });
    expect(error.message).toContain('no answer within 50 ms');
  });

  it("rejects with the caller's own reason when the caller aborts", async () => {
    await using server = await ScriptedServer.start(silence);
    const reason = new Error('enough');
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 30);
    await expect(clientOf(server.url).pools.get('p', { signal: controller.signal })).rejects.toBe(reason);
  });

  it('refuses an address that is none, credentials in it, and a token with a line end', () => {
    expect(() => clientOf('localhost:7480')).toThrow('is not the address of a server');
    expect(() => clientOf('http://user:pass@localhost')).toThrow('credentials');
    expect(() => clientOf('http://localhost/?x=1')).toThrow('query');
    expect(() => clientOf('http://localhost', { token: 'a\nb' })).toThrow('token');
  });
});

describe('attempts', () => {
  it('repeats a read until the server is back', async () => {
    await using server = await ScriptedServer.start(inTurn(problem(503, 'overloaded'), hangUp, json({ id: 'p' })));
    await expect(clientOf(server.url).pools.get('p')).resolves.toEqual({ id: 'p' });
    expect(server.seen).toHaveLength(3);
  });

  it('gives up after the last one and says how many there were', async () => {
    await using server = await ScriptedServer.start(problem(503, 'overloaded'));
    const error = await failureOf(clientOf(server.url, { attemptsMax: 3 }).pools.get('p'));
    expect(error).toMatchObject({ status: 503, code: 'overloaded' });
    expect(error.message).toMatch(/\(tried 3 times in \d+ ms\)$/);
    expect(server.seen).toHaveLength(3);
  });

  it('does not repeat a read that was refused', async () => {
    await using server = await ScriptedServer.start(problem(404, 'pool_not_found'));
    await failureOf(clientOf(server.url).pools.get('p'));
    expect(server.seen).toHaveLength(1);
  });

  const grant = { session: 'session-1', claims: [{ protocol: 'tcp' as const }] };
  const keysOf = (server: ScriptedServer) => server.seen.map(({ headers }) => headers['idempotency-key']);

  it('repeats a grant that may have happened under the same key, and the next grant under another', async () => {
    await using server = await ScriptedServer.start(inTurn(hangUp, problem(503, 'overloaded'), json({ leases: [] })));
    const client = clientOf(server.url);
    await expect(client.leases.grant(grant)).resolves.toEqual({ leases: [] });
    await client.leases.grant(grant);
    const [first, second, third, next] = keysOf(server);
    expect(first).toMatch(/^[0-9a-z]{8}-[0-9a-f-]{36}$/);
    expect([second, third]).toEqual([first, first]);
    expect(next).not.toBe(first);
  });

  it('sends the key that the caller chose', async () => {
    await using server = await ScriptedServer.start(json({}));
    const client = clientOf(server.url);
    await client.pools.create({ id: 'p', prefixes: ['192.0.2.0/24'] }, { idempotencyKey: 'mine' });
    await client.sessions.end('session-1', { idempotencyKey: 'mine-too' });
    expect(keysOf(server)).toEqual(['mine', 'mine-too']);
  });

  it.each([
    ['a keepalive of a session', (client: FisheryClient) => client.sessions.keepalive('session-1')],
    [
      'a keepalive of an agent',
      (client: FisheryClient) => client.agent.keepalive('m', { boot_id: 'b', version: '1', applied_revision: 0 }),
    ],
    ['a report', (client: FisheryClient) => client.agent.applied('m', { revision: 0, leases: [], slices: [] })],
  ])('does not repeat %s after the connection broke, and gives it no key', async (_name, call) => {
    await using server = await ScriptedServer.start(hangUp);
    expect(await failureOf(call(clientOf(server.url)))).toMatchObject({ code: 'connection_lost' });
    expect(keysOf(server)).toEqual([undefined]);
  });

  it('repeats even a grant when no connection came about', async () => {
    const url = `http://127.0.0.1:${await closedPort()}`;
    const error = await failureOf(clientOf(url, { attemptsMax: 2 }).leases.grant({ session: 'session-1', claims: [] }));
    expect(error).toMatchObject({ status: null, code: 'unreachable', retryable: true });
    expect(error.message).toMatch(/no connection \(ECONNREFUSED\) \(tried 2 times/);
  });

  it('waits as long as the server asks for', async () => {
    await using server = await ScriptedServer.start(
      inTurn(problem(429, 'too_many_requests', {}, { 'retry-after': '1' }), json({ id: 'p' })),
    );
    const started = performance.now();
    await clientOf(server.url).pools.get('p');
    expect(performance.now() - started).toBeGreaterThan(990);
  });

  it('does not sleep through a long Retry-After: the caller decides', async () => {
    await using server = await ScriptedServer.start(problem(503, 'overloaded', { retry_after_s: 60 }));
    const error = await failureOf(clientOf(server.url).pools.get('p'));
    expect(error.retryAfterMs).toBe(60_000);
    expect(server.seen).toHaveLength(1);
  });
});

describe('a stream that nobody reads yet', () => {
  it('waits for its reader, whatever the collector of garbage finds meanwhile', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    await using server = await ScriptedServer.start((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('event: change\ndata: 1\n\n');
    });
    const opened = await clientOf(server.url).agent.watch('edge-1', 0, new AbortController().signal);
    for (let round = 0; round < 20; round++) {
      collect();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(await new Response(opened).text()).toBe('event: change\ndata: 1\n\n');
  });
});
