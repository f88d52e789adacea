import type { PlaceholderSockets } from '../../src/agent/placeholders/placeholders.ts';
import type { SocketTable } from '../../src/agent/leases/port-users.ts';
import { addressToBytes } from '../../src/net/address.ts';
import type { PingSocket, SocketInfo } from '../../src/sys/sock-diag.ts';
import { address } from './fake-host.ts';

const EADDRINUSE = 98;

/** The sockets of a host in memory: other people's, and the placeholders that the agent opens. */
export class FakeSockets implements SocketTable {
  readonly others: SocketInfo[] = [];
  readonly pings: PingSocket[] = [];
  readonly owners = new Map<number, Readonly<{ pid: number; command: string }>[]>();
  /** What each open placeholder holds, by descriptor. */
  readonly held = new Map<number, string>();
  /** How often the tables were read. */
  readings = 0;
  #made = 0;
  /** Instead of what the table says, for a port: a positive errno. */
  errnoAt = new Map<number, number>();

  /** Somebody's TCP socket, established unless said otherwise. */
  add(port: number, over: Partial<SocketInfo> = {}): SocketInfo {
    const number = ++this.#made;
    const socket: SocketInfo = {
      family: 4,
      protocol: 'tcp',
      state: 'established',
      localAddress: '198.51.100.10',
      localPort: port,
      remoteAddress: '203.0.113.1',
      remotePort: 443,
      uid: 2_001,
      inode: 1_000 + number,
      cookie: { family: 2, id: Uint8Array.of(number) },
      ...over,
    };
    this.others.push(socket);
    this.owners.set(socket.inode, [{ pid: number, command: 'program' }]);
    return socket;
  }

  remove(socket: SocketInfo): void {
    this.others.splice(this.others.indexOf(socket), 1);
  }

  /** The same socket in another state, as the kernel shows it later. */
  change(socket: SocketInfo, over: Partial<SocketInfo>): SocketInfo {
    const changed = { ...socket, ...over };
    this.others[this.others.indexOf(socket)] = changed;
    return changed;
  }

  sockets({ protocol, family, ports, address: only }: Parameters<SocketTable['sockets']>[0]): readonly SocketInfo[] {
    this.readings++;
    return this.others.filter(
      (each) =>
        each.protocol === protocol &&
        each.family === family &&
        each.localPort >= ports.first &&
        each.localPort <= ports.last &&
        (only === undefined || each.localAddress === only || each.localAddress === '0.0.0.0'),
    );
  }

  pingSockets({ identifiers }: Parameters<SocketTable['pingSockets']>[0]): readonly PingSocket[] {
    return this.pings.filter(({ identifier }) => identifier >= identifiers.first && identifier <= identifiers.last);
  }

  processesOf(inodes: ReadonlySet<number>): ReadonlyMap<number, readonly Readonly<{ pid: number; command: string }>[]> {
    return new Map(
      [...inodes].flatMap((inode) => (this.owners.has(inode) ? [[inode, this.owners.get(inode) ?? []]] : [])),
    );
  }

  /** What was cut, by local port. */
  readonly destroyed: number[] = [];
  /** Ports that were taken by bind(): cutting such a socket leaves it bound. */
  readonly boundExplicitly = new Set<number>();
  destroyRefusal = 0;

  destroy(socket: SocketInfo): number {
    if (this.destroyRefusal !== 0) return this.destroyRefusal;
    if (!this.others.includes(socket) || (socket.protocol === 'tcp' && socket.state === 'bound')) return -2;
    this.destroyed.push(socket.localPort);
    if (this.boundExplicitly.has(socket.localPort))
      this.change(socket, { state: 'bound', remoteAddress: '0.0.0.0', remotePort: 0 });
    else this.remove(socket);
    return 0;
  }

  /** What is held now, in order, each once however many descriptors it has. */
  holdings(): readonly string[] {
    return [...new Set(this.held.values())].sort();
  }

  /** Another descriptor of the same socket. */
  duplicate(fd: number): number {
    const what = this.held.get(fd);
    if (what === undefined) throw new Error(`descriptor ${fd} is not open`);
    return this.#hold(what);
  }

  readonly open: PlaceholderSockets = {
    openBound: (bytes, port, protocol) => {
      const what = `${protocol} ${nameOf(bytes)}:${port}`;
      const clash =
        this.others.some((each) => each.protocol === protocol && each.localPort === port) ||
        [...this.held.values()].includes(what);
      const errno = this.errnoAt.get(port) ?? (clash ? EADDRINUSE : 0);
      return errno > 0 ? -errno : this.#hold(what);
    },
    openPing: (_bytes, identifier) => {
      const taken =
        [...this.held.values()].includes(`ping ${identifier}`) ||
        this.pings.some((each) => each.identifier === identifier);
      const errno = this.errnoAt.get(identifier) ?? (taken ? EADDRINUSE : 0);
      return errno > 0 ? -errno : this.#hold(`ping ${identifier}`);
    },
    isBound: (fd, bytes, port, protocol) => this.held.get(fd) === `${protocol} ${nameOf(bytes)}:${port}`,
    isPing: (fd, identifier) => this.held.get(fd) === `ping ${identifier}`,
    closeFd: (fd) => {
      if (!this.held.delete(fd)) throw new Error(`descriptor ${fd} is not open`);
    },
  };

  #hold(what: string): number {
    const fd = ++this.#made;
    this.held.set(fd, what);
    return fd;
  }
}

const known = ['198.51.100.10', '198.51.100.11', '2001:db8::10'].map(address);
const nameOf = (bytes: Uint8Array): string =>
  known.find((each) => Buffer.from(addressToBytes(each)).equals(Buffer.from(bytes))) ?? '?';
