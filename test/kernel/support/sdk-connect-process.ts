/**
 * Runs inside the host namespace of test/kernel/sdk-connect.test.ts: connects through the SDK as it is told, keeps the
 * sockets open, and says how each attempt ended.
 */
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { connect, ConnectError } from '../../../src/sdk/index.ts';
import type { Lease } from '../../../src/wire/leases.ts';

export type ConnectRequest = Readonly<{
  id: number;
  lease: Partial<Lease>;
  host: string;
  port: number;
  times: number;
  timeoutMs?: number;
  abortAfterMs?: number;
  /** Resets everything that is still open first. */
  fresh?: boolean;
}>;

export type ConnectOutcome =
  | Readonly<{ address: string; port: number; said: string }>
  | Readonly<{ failure: string; code?: string; message: string }>;

const open = new Set<Socket>();

async function attempt(request: ConnectRequest): Promise<ConnectOutcome> {
  try {
    const socket = await connect({
      lease: request.lease as Lease,
      host: request.host,
      port: request.port,
      ...(request.timeoutMs === undefined ? {} : { timeoutMs: request.timeoutMs }),
      ...(request.abortAfterMs === undefined ? {} : { signal: AbortSignal.timeout(request.abortAfterMs) }),
    });
    open.add(socket.on('error', () => undefined));
    // The origin says whom it sees: what this socket believes of itself is not evidence.
    const said = await new Promise<string>((done) => socket.once('data', (data) => done(data.toString().trim())));
    return { address: socket.localAddress ?? '', port: socket.localPort ?? 0, said };
  } catch (thrown) {
    if (thrown instanceof ConnectError)
      return {
        failure: thrown.failure,
        message: thrown.message,
        ...(thrown.code === undefined ? {} : { code: thrown.code }),
      };
    return { failure: (thrown as Error).name, message: (thrown as Error).message };
  }
}

process.on('message', (request: ConnectRequest) => {
  void (async () => {
    if (request.fresh) {
      for (const socket of open) socket.resetAndDestroy();
      open.clear();
    }
    const outcomes: ConnectOutcome[] = [];
    for (let i = 0; i < request.times; i++) outcomes.push(await attempt(request));
    process.send?.({ id: request.id, outcomes });
  })();
});

// Something of another process on the loopback, for a name that resolves here.
const server = createServer((socket) => socket.end(`${socket.remoteAddress}:${socket.remotePort}\n`));
server.listen(0, '127.0.0.1', () => process.send?.({ ready: (server.address() as AddressInfo).port }));
