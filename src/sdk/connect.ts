import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { addressToBytes, familyOf, parseAddress, type Address, type Family } from '../net/address.ts';
import { formatPorts, rangeContains, type PortRange } from '../net/ports.ts';
import { errnoName } from '../sys/errno.ts';
import { localPortOf, prepareSocket } from '../sys/late-socket.ts';
import type { Lease } from '../wire/leases.ts';

/** What went wrong, for programs; `code` beside it is the errno where the kernel gave one. */
export type ConnectFailure =
  /** Not an active TCP lease, or of another address family than the remote host. */
  | 'unusable_lease'
  /** The lease's address is not on this host: no agent has made the lease true here. */
  | 'address_not_local'
  /** net.ipv4.ip_local_port_range leaves out ports of the lease, so the kernel would take one outside of it. */
  | 'port_range'
  /** Every port of the lease is in use toward this remote address and port. */
  | 'ports_exhausted'
  | 'resolve'
  | 'refused'
  | 'unreachable'
  | 'timeout'
  | 'failed';

export class ConnectError extends Error {
  readonly failure: ConnectFailure;
  /** `ECONNREFUSED`, `EADDRNOTAVAIL` and the like; undefined when no system call failed. */
  readonly code: string | undefined;

  constructor(failure: ConnectFailure, message: string, code?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ConnectError';
    this.failure = failure;
    this.code = code;
  }
}

/** What of a lease a connection needs. */
export type ConnectLease = Pick<Lease, 'id' | 'protocol' | 'state' | 'address' | 'ports' | 'binding'>;

export type ConnectOptions = Readonly<{
  lease: ConnectLease;
  /** A name or an address. A name is resolved to addresses of the lease's family, which are tried in order. */
  host: string;
  port: number;
  signal?: AbortSignal;
  /** For all of it: resolving and every address. Default 30 s. */
  timeoutMs?: number;
  /** As for net.Socket: whether the socket stays writable when the remote has finished. */
  allowHalfOpen?: boolean;
  /** For each attempt: the local port that the kernel took, as soon as it did and before the remote has answered. */
  onAttempt?: (localPort: number) => void;
}>;

/**
 * A TCP connection whose local address and port are in the lease. Like a socket of net.connect() in every other way:
 * the connection is made by Node's own event loop, on a descriptor that was prepared before (see sys/late-socket.ts).
 *
 * Rejects with ConnectError, or with the signal's reason.
 */
export async function connect(options: ConnectOptions): Promise<net.Socket> {
  const { lease, host, port, timeoutMs = 30_000 } = options;
  const address = usableAddress(lease);
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  try {
    signal.throwIfAborted();
    let last: ConnectError | undefined;
    for (const remote of await resolve(host, familyOf(address), signal)) {
      const { allowHalfOpen = false, onAttempt } = options;
      const ways = { lease, address, remote, port, signal, allowHalfOpen, onAttempt };
      const outcome = (lease.binding ?? 'late') === 'late' ? await connectLate(ways) : await connectExplicit(ways);
      if (outcome instanceof net.Socket) return outcome;
      last = outcome;
    }
    throw last ?? new ConnectError('resolve', `${host} has no IPv${familyOf(address)} address`);
  } catch (thrown) {
    options.signal?.throwIfAborted();
    if (timeout.aborted)
      throw new ConnectError('timeout', `${host}:${port} did not answer within ${timeoutMs} ms`, 'ETIMEDOUT', thrown);
    throw thrown;
  }
}

/** Everything that one attempt needs: one remote address. */
type Way = Readonly<{
  lease: ConnectLease;
  address: Address;
  remote: string;
  port: number;
  signal: AbortSignal;
  allowHalfOpen: boolean;
  onAttempt: ((localPort: number) => void) | undefined;
}>;

function usableAddress(lease: ConnectLease): Address {
  if (lease.protocol !== 'tcp')
    throw new ConnectError('unusable_lease', `${lease.id} is a lease of ${lease.protocol} ports`);
  if (lease.state !== 'active') throw new ConnectError('unusable_lease', `${lease.id} is ${lease.state}, not active`);
  const parsed = parseAddress(lease.address);
  if (!parsed.ok) throw new ConnectError('unusable_lease', `${lease.id}: ${parsed.error}`);
  return parsed.value;
}

/**
 * Names are resolved first and here, so that connect() gets an address: a socket that waited for its name would already
 * be out of the caller's reach.
 */
async function resolve(host: string, family: Family, signal: AbortSignal): Promise<readonly string[]> {
  const literal = net.isIP(host);
  if (literal !== 0 && literal !== family)
    throw new ConnectError('unusable_lease', `${host} is an IPv${literal} address, the lease's is IPv${family}`);
  if (literal !== 0) return [host];
  try {
    const found = await abortable(lookup(host, { family, all: true }), signal);
    return found.map(({ address }) => address);
  } catch (thrown) {
    signal.throwIfAborted();
    throw new ConnectError('resolve', `${host} cannot be resolved: ${textOf(thrown)}`, codeOf(thrown), thrown);
  }
}

/** The port is taken in connect(), by the kernel, among those that are free toward this very remote. */
async function connectLate(way: Way): Promise<net.Socket | ConnectError> {
  requirePortRange(way);
  const fd = prepareSocket({ address: addressToBytes(way.address), ports: way.lease.ports, binding: 'late' });
  if (fd < 0) throw refusedBind(way, fd);
  const outcome = await connectOn(fd, way);
  if (!(outcome instanceof ConnectError)) return within(outcome, way);
  return outcome.code === 'EADDRNOTAVAIL' ? exhausted(way, outcome) : outcome;
}

/**
 * bind() takes one port after the other, from a random one on, until one is free toward this remote. A port that is
 * taken shows in bind() (EADDRINUSE, held without SO_REUSEADDR) or in connect() (EADDRNOTAVAIL, this very 5-tuple).
 */
async function connectExplicit(way: Way): Promise<net.Socket | ConnectError> {
  const { first, last } = way.lease.ports;
  const count = last - first + 1;
  const start = Math.floor(Math.random() * count);
  for (let i = 0; i < count; i++) {
    way.signal.throwIfAborted();
    const port = first + ((start + i) % count);
    const address = addressToBytes(way.address);
    const fd = prepareSocket({ address, ports: way.lease.ports, binding: 'explicit', port });
    if (fd < 0 && errnoName(fd) === 'EADDRINUSE') continue;
    if (fd < 0) throw refusedBind(way, fd);
    const outcome = await connectOn(fd, way);
    if (!(outcome instanceof ConnectError)) return within(outcome, way);
    if (outcome.code !== 'EADDRNOTAVAIL') return outcome;
  }
  return exhausted(way);
}

/**
 * Lets libuv connect the prepared descriptor, which it owns from here on. `manualStart` keeps the constructor from
 * reading a socket that is not connected yet; Node's types do not know it, its own code relies on it.
 */
function connectOn(fd: number, way: Way): Promise<net.Socket | ConnectError> {
  const options: net.SocketConstructorOpts & { manualStart: true } = {
    fd,
    manualStart: true,
    allowHalfOpen: way.allowHalfOpen,
  };
  const socket = new net.Socket(options);
  return new Promise((done, fail) => {
    const settle = (finish: () => void) => {
      way.signal.removeEventListener('abort', onAbort);
      socket.off('error', onError).off('connect', onConnect);
      finish();
    };
    const onAbort = () => {
      settle(() => fail(reasonOf(way.signal)));
      socket.on('error', () => {}).destroy();
    };
    const onError = (error: Error) => settle(() => done(failedConnect(way, error)));
    const onConnect = () => settle(() => done(socket));
    way.signal.addEventListener('abort', onAbort, { once: true });
    socket.on('error', onError).on('connect', onConnect).connect({ host: way.remote, port: way.port });
    const { onAttempt } = way;
    // Node calls connect() in the next tick, which has been asked for just now: this one comes right behind it.
    if (onAttempt)
      process.nextTick(() => {
        if (socket.destroyed) return;
        const port = localPortOf(fd);
        if (port > 0) onAttempt(port);
      });
  });
}

/** The last check before the socket is handed out: a port outside of the lease is somebody else's. */
function within(socket: net.Socket, way: Way): net.Socket {
  const port = socket.localPort;
  if (port !== undefined && port >= way.lease.ports.first && port <= way.lease.ports.last) return socket;
  socket.on('error', () => {}).resetAndDestroy();
  throw new ConnectError(
    'port_range',
    `the kernel took port ${port}, outside of ${formatPorts(way.lease.ports)}: net.ipv4.ip_local_port_range must cover it`,
  );
}

/** It governs IPv6 too. The range asked for is clamped to it without an error, and then the first packet is out already. */
const rangeFile = '/proc/sys/net/ipv4/ip_local_port_range';
const covered = new WeakSet<ConnectLease>();

/** Once per lease object: `within` looks again at every connection. */
function requirePortRange({ lease }: Way): void {
  if (covered.has(lease)) return;
  const range = readPortRange();
  if (range && !rangeContains(range, lease.ports))
    throw new ConnectError(
      'port_range',
      `net.ipv4.ip_local_port_range is ${formatPorts(range)} and leaves out ports of ${formatPorts(lease.ports)}; ` +
        'without them the kernel would take ports outside of the lease',
    );
  covered.add(lease);
}

function readPortRange(): PortRange | undefined {
  try {
    const [first, last] = readFileSync(rangeFile, 'utf8').trim().split(/\s+/).map(Number);
    return first === undefined || last === undefined ? undefined : { first, last };
  } catch {
    // No /proc here (a container may lack it): then only the check of the connected socket remains.
    return undefined;
  }
}

const refusedBind = ({ lease, address }: Way, negativeErrno: number): ConnectError => {
  const code = errnoName(negativeErrno);
  return code === 'EADDRNOTAVAIL'
    ? new ConnectError('address_not_local', `${address} is not an address of this host (${lease.id})`, code)
    : new ConnectError('failed', `no socket on ${address}:${formatPorts(lease.ports)}: ${code}`, code);
};

const exhausted = ({ lease, address, remote, port }: Way, cause?: ConnectError): ConnectError =>
  new ConnectError(
    'ports_exhausted',
    `every port of ${address}:${formatPorts(lease.ports)} (${lease.id}) is in use toward ${remote}:${port}`,
    'EADDRNOTAVAIL',
    cause,
  );

const failures: Readonly<Record<string, ConnectFailure>> = {
  ECONNREFUSED: 'refused',
  ECONNRESET: 'refused',
  ENETUNREACH: 'unreachable',
  EHOSTUNREACH: 'unreachable',
  // What a route of type blackhole, unreachable or prohibit answers.
  EINVAL: 'unreachable',
  EACCES: 'unreachable',
  ETIMEDOUT: 'timeout',
};

function failedConnect({ remote, port }: Way, error: Error): ConnectError {
  const code = codeOf(error);
  return new ConnectError(failures[code ?? ''] ?? 'failed', `${remote}:${port}: ${error.message}`, code, error);
}

const textOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));
const codeOf = (thrown: unknown): string | undefined =>
  typeof thrown === 'object' && thrown !== null && 'code' in thrown && typeof thrown.code === 'string'
    ? thrown.code
    : undefined;

/** A signal's reason is whatever its owner gave; nearly always an Error, and it must reach the caller as it is. */
const reasonOf = (signal: AbortSignal): Error => signal.reason as Error;

/** A lookup runs on a thread that cannot be called back: its answer is dropped when the signal comes first. */
function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((done, fail) => {
    const onAbort = () => fail(reasonOf(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(done, fail).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
