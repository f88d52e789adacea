import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { err, ok, type Result } from '../../net/result.ts';
import { makeDirectory } from '../../ops/directory.ts';
import { flowPage, isFlowPage } from '../fish/flow-pages.ts';
import { metricsText } from './metrics.ts';
import { socketName } from '../settings/setting-values.ts';
import { tracePage } from '../trace/trace-page.ts';
import { problemsIn, statusOf, type StatusParts } from './status.ts';

export { socketName };

/**
 * GET /status (JSON), /healthz (200, or 503 with the reason) and /metrics, on a Unix socket that root alone may open:
 * `curl --unix-socket /var/lib/fishery/agent.sock http://agent/status`. POST /guard/shut and /guard/open are for a machine that
 * goes to sleep, and wakes.
 */
export async function serveStatus(stateDir: string, parts: StatusParts): Promise<Result<() => Promise<void>, string>> {
  const path = join(stateDir, socketName);
  const server = createServer((request, response) => {
    answer(request, response, parts).catch((error: unknown) => {
      send(response, 500, 'text/plain', `${error instanceof Error ? error.message : String(error)}\n`);
    });
  });
  try {
    makeDirectory(stateDir);
    // Left behind by an agent that died: the host's lock says that none is at work.
    rmSync(path, { force: true });
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    server.once('error', reject);
    server.listen(path, () => resolve(undefined));
    await promise;
    chmodSync(path, 0o600);
  } catch (error) {
    server.close();
    return err(`state_dir ${stateDir} cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  }
  server.unref();
  return ok(async () => {
    server.closeAllConnections();
    await new Promise<void>((done) => server.close(() => done()));
  });
}

/** What an agent that was killed leaves behind. Where one answers it stays: that is the agent of another namespace. */
export async function removeLeftSocket(stateDir: string): Promise<void> {
  const path = join(stateDir, socketName);
  const code = await new Promise<string | undefined>((resolve) => {
    const asking = connect(path, () => {
      asking.destroy();
      resolve(undefined);
    });
    asking.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  if (code === 'ECONNREFUSED') rmSync(path, { force: true });
}

async function answer(request: IncomingMessage, response: ServerResponse, parts: StatusParts): Promise<void> {
  const [path = ''] = (request.url ?? '').split('?', 1);
  if (request.method === 'POST' && (path === '/guard/shut' || path === '/guard/open')) {
    if (path === '/guard/shut') parts.guard.holdShut();
    else parts.guard.letOpen();
    send(response, 200, 'text/plain', `${path === '/guard/shut' ? 'the guard is shut' : 'the guard may open again'}\n`);
    return;
  }
  if (request.method === 'GET' && (isFlowPage(path) || path === '/trace')) {
    const { searchParams: query } = new URL(request.url ?? '', 'http://agent');
    const { fish } = parts.agent;
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const { code, body } = await (isFlowPage(path)
      ? flowPage({ fish, terminator: parts.terminator?.views }, path, query)
      : tracePage({ fish, kernel: parts.kernelTracer }, query, gone.signal));
    if (typeof body === 'string') send(response, code, 'text/plain', `${body}\n`);
    else send(response, code, 'application/json', `${JSON.stringify(body)}\n`);
    return;
  }
  if (request.method !== 'GET' || !['/status', '/healthz', '/metrics'].includes(path)) {
    send(
      response,
      404,
      'text/plain',
      'GET /status, /healthz, /metrics, /flows, /flows/top, /flows/ports, /flows/origins or /trace; POST /guard/shut or /guard/open\n',
    );
    return;
  }
  const status = await statusOf(parts);
  if (path === '/status') send(response, 200, 'application/json', `${JSON.stringify(status, null, 2)}\n`);
  else if (path === '/metrics') send(response, 200, 'text/plain; version=0.0.4', await metricsText(status));
  else {
    const said = problemsIn(status);
    send(response, said.length === 0 ? 200 : 503, 'text/plain', `${said.join('\n') || 'ok'}\n`);
  }
}

function send(response: ServerResponse, code: number, type: string, body: string): void {
  response.writeHead(code, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
