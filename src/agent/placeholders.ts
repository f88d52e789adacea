import { addressToBytes } from '../net/address.ts';
import { portCount } from '../net/ports.ts';
import { errnoName } from '../sys/errno.ts';
import { conflictsOf, describeUser, type SocketTable } from './port-users.ts';
import type { Block } from './sets.ts';

/** How placeholder sockets are opened; src/sys in production. All answer a descriptor or -errno. */
export type PlaceholderSockets = Readonly<{
  openBound(address: Uint8Array, port: number, protocol: 'tcp' | 'udp', mark: number): number;
  openPing(address: Uint8Array, identifier: number): number;
  closeFd(fd: number): void;
}>;

export type PlaceholderParts = Readonly<{
  open: PlaceholderSockets;
  table: SocketTable;
  /** SO_MARK of every placeholder: how they are told from other people's sockets. */
  mark: number;
  /** Descriptors that may be spent on them, all together. */
  descriptors_max: number;
}>;

/** Why a block cannot be held: what the kernel said, and about whom. */
export type Refusal = Readonly<{ errno: string; detail: string }>;

const EMFILE = 24;
const ENFILE = 23;
const EACCES = 13;
const EADDRNOTAVAIL = 99;

/**
 * The sockets that hold what fish has to itself: one per tcp or udp port of an exclusive block, and one per echo
 * identifier of this host. A block is held whole or not at all.
 *
 * Identifiers collide across addresses, so one socket serves every lease of the same identifier and is counted. Blocks
 * of proxies have none: their own sockets hold their ports. Nor have shared blocks: there, fish holds 5-tuples.
 */
export class Placeholders {
  readonly #parts: PlaceholderParts;
  readonly #byLease = new Map<string, Readonly<{ fds: readonly number[]; identifiers: readonly number[] }>>();
  readonly #identifiers = new Map<number, { fd: number; leases: number }>();
  #open = 0;

  constructor(parts: PlaceholderParts) {
    this.#parts = parts;
  }

  /** How many descriptors are held. */
  get open(): number {
    return this.#open;
  }

  /** Holds all of the block's ports for a lease; when the kernel refuses one, none. Asked again for the same lease, does nothing. */
  hold(lease: string, block: Block): Refusal | undefined {
    if (block.mode === 'shared' || this.#byLease.has(lease)) return undefined;
    const { first, last } = block.ports;
    const { descriptors_max } = this.#parts;
    const wanted = portCount(block.ports);
    if (this.#open + wanted > descriptors_max)
      return {
        errno: 'EMFILE',
        detail:
          `${wanted} placeholders wanted, ${this.#open} of ${descriptors_max} are in use: ` +
          'raise the limit of open descriptors (LimitNOFILE) and restart the agent',
      };
    const address = addressToBytes(block.address);
    const fds: number[] = [];
    const identifiers: number[] = [];
    for (let port = first; port <= last; port++) {
      const refused =
        block.protocol === 'icmp' ? this.#holdIdentifier(address, port) : this.#bind(block, address, port);
      if (refused < 0) {
        this.#release({ fds, identifiers });
        return this.#explain(block, port, -refused);
      }
      if (block.protocol === 'icmp') identifiers.push(port);
      else fds.push(refused);
    }
    this.#byLease.set(lease, { fds, identifiers });
    return undefined;
  }

  /** Closes what a lease holds; a lease that holds nothing is fine. A closed placeholder leaves no TIME_WAIT. */
  close(lease: string): void {
    const held = this.#byLease.get(lease);
    if (!held) return;
    this.#byLease.delete(lease);
    this.#release(held);
  }

  closeAll(): void {
    for (const lease of [...this.#byLease.keys()]) this.close(lease);
  }

  #bind(block: Block, address: Uint8Array, port: number): number {
    const protocol = block.protocol === 'udp' ? 'udp' : 'tcp';
    const fd = this.#parts.open.openBound(address, port, protocol, this.#parts.mark);
    if (fd >= 0) this.#open++;
    return fd;
  }

  #holdIdentifier(address: Uint8Array, identifier: number): number {
    const held = this.#identifiers.get(identifier);
    if (held) {
      held.leases++;
      return held.fd;
    }
    const fd = this.#parts.open.openPing(address, identifier);
    if (fd < 0) return fd;
    this.#identifiers.set(identifier, { fd, leases: 1 });
    this.#open++;
    return fd;
  }

  #release({ fds, identifiers }: Readonly<{ fds: readonly number[]; identifiers: readonly number[] }>): void {
    for (const fd of fds) this.#closeOne(fd);
    for (const identifier of identifiers) {
      const held = this.#identifiers.get(identifier);
      if (!held || --held.leases > 0) continue;
      this.#identifiers.delete(identifier);
      this.#closeOne(held.fd);
    }
  }

  #closeOne(fd: number): void {
    this.#open--;
    this.#parts.open.closeFd(fd);
  }

  #explain(block: Block, port: number, errno: number): Refusal {
    const { address, protocol } = block;
    const where = `${protocol} ${protocol === 'icmp' ? 'identifier' : 'port'} ${port} of ${address}`;
    if (errno === EMFILE || errno === ENFILE)
      return { errno: errnoName(errno), detail: `${where}: no descriptor left; raise LimitNOFILE or fs.file-max` };
    if (errno === EACCES && protocol === 'icmp')
      return { errno: 'EACCES', detail: `${where}: net.ipv4.ping_group_range does not include group 0` };
    if (errno === EADDRNOTAVAIL) return { errno: 'EADDRNOTAVAIL', detail: `${where}: the address is not on this host` };
    return { errno: errnoName(errno), detail: `${where}: ${this.#holders(block, port)}` };
  }

  #holders(block: Block, port: number): string {
    const users = conflictsOf(this.#parts.table, { ...block, ports: { first: port, last: port } });
    const [first, ...others] = users;
    if (!first) return 'the kernel shows no socket there (a TIME_WAIT, or gone meanwhile)';
    return describeUser(this.#parts.table, first) + (others.length > 0 ? ` and ${others.length} more` : '');
  }
}
