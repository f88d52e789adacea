import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ConnectError, type ConnectFailure } from '../../src/sdk/index.ts';

export type ProxyOptions = Readonly<{
  /** Opens the connection to where a client wants to go. */
  connect: (target: Target, signal: AbortSignal) => Promise<Socket>;
  /** A tunnel over which nothing moves for so long is closed. */
  idle_ms: number;
  tunnels_max: number;
  log: (line: string) => void;
}>;

export type Target = Readonly<{ host: string; port: number }>;

export type Proxy = Readonly<{
  server: Server;
  /** Ends every tunnel at once, as when the right to their ports is gone. */
  cutTunnels: () => void;
  tunnels: () => number;
}>;

/** An HTTP proxy that does CONNECT (RFC 9110 §9.3.6) and nothing else. */
export function createProxy(options: ProxyOptions): Proxy {
  const tunnels = new Set<Duplex>();
  const server = createServer((_request, response) => {
    response.writeHead(405, { allow: 'CONNECT', 'content-type': 'text/plain' }).end('this proxy only does CONNECT\n');
  });
  server.on('connect', (request: IncomingMessage, client: Duplex, head: Buffer) => {
    client.on('error', () => client.destroy());
    if (tunnels.size >= options.tunnels_max) {
      refuse(client, {
        status: 503,
        type: 'connection_limit_reached',
        reason: `already ${tunnels.size} tunnels`,
        retry_s: 1,
      });
      return;
    }
    tunnels.add(client);
    client.on('close', () => tunnels.delete(client));
    void open(options, request.url ?? '', client, head);
  });
  return {
    server,
    cutTunnels: () => {
      for (const client of tunnels) breakOff(client);
    },
    tunnels: () => tunnels.size,
  };
}

async function open(options: ProxyOptions, authority: string, client: Duplex, head: Buffer): Promise<void> {
  const target = parseAuthority(authority);
  if (!target) {
    refuse(client, { status: 400, type: 'http_request_error', reason: `"${authority}" is not host:port` });
    return;
  }
  // A client that goes away while the connection is being made takes the attempt with it.
  const gone = new AbortController();
  const onClose = () => gone.abort(new Error('the client went away'));
  client.once('close', onClose);
  try {
    const upstream = await options.connect(target, gone.signal);
    client.off('close', onClose);
    options.log(`${authority} from ${upstream.localAddress}:${upstream.localPort}`);
    join(client, upstream, head, options.idle_ms);
  } catch (thrown) {
    client.off('close', onClose);
    if (gone.signal.aborted) return;
    if (!(thrown instanceof ConnectError)) throw thrown;
    options.log(`${authority} refused: ${thrown.message}`);
    refuse(client, { ...answers[thrown.failure], reason: thrown.message });
  }
}

/**
 * Two pipes. Each end that finishes finishes the other in that direction only, so a client that has said everything
 * still gets its answer (half-close); a slow reader stops the sender, because pipe() waits for `drain`.
 */
function join(client: Duplex, upstream: Socket, head: Buffer, idleMs: number): void {
  // An end that breaks breaks the other. One that finished in peace does not: the other may still have bytes to write.
  upstream.on('error', () => breakOff(client));
  upstream.on('close', () => {
    if (!upstream.readableEnded) breakOff(client);
  });
  client.on('close', () => {
    if (!client.readableEnded || !client.writableFinished) breakOff(upstream);
  });
  upstream.setTimeout(idleMs, () => breakOff(upstream));
  client.write('HTTP/1.1 200 Connection established\r\n\r\n');
  if (head.length > 0) upstream.write(head);
  client.pipe(upstream);
  upstream.pipe(client);
}

/** By a reset: an answer that was cut short must not look like one that has ended. */
function breakOff(end: Duplex): void {
  if (end instanceof Socket) end.resetAndDestroy();
  else end.destroy();
}

type Refusal = Readonly<{ status: number; type: string; reason: string; retry_s?: number }>;

const phrases: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/** What a client is told, for people in the body and for programs in Proxy-Status (error types of RFC 9209 §2.3). */
function refuse(client: Duplex, { status, type, reason, retry_s }: Refusal): void {
  const body = `${reason}\n`;
  client.end(
    [
      `HTTP/1.1 ${status} ${phrases[status] ?? ''}`,
      `Proxy-Status: fishery-connect-proxy; error=${type}`,
      'Content-Type: text/plain; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      ...(retry_s === undefined ? [] : [`Retry-After: ${retry_s}`]),
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
  );
}

/** A new kind of failure without an answer does not compile. */
const answers: Readonly<Record<ConnectFailure, Readonly<{ status: number; type: string; retry_s?: number }>>> = {
  ports_exhausted: { status: 503, type: 'connection_limit_reached', retry_s: 1 },
  unusable_lease: { status: 503, type: 'proxy_internal_error', retry_s: 5 },
  address_not_local: { status: 503, type: 'proxy_configuration_error', retry_s: 5 },
  port_range: { status: 503, type: 'proxy_configuration_error', retry_s: 5 },
  resolve: { status: 502, type: 'dns_error' },
  refused: { status: 502, type: 'connection_refused' },
  unreachable: { status: 502, type: 'destination_ip_unroutable' },
  failed: { status: 502, type: 'destination_unavailable' },
  timeout: { status: 504, type: 'connection_timeout' },
};

/** The authority form of a request target: `host:port`, `[2001:db8::1]:443`. The port is never left out (RFC 9110 §9.3.6). */
export function parseAuthority(authority: string): Target | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/@]+)):(\d{1,5})$/.exec(authority);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host !== undefined && port >= 1 && port <= 65_535 ? { host, port } : undefined;
}
