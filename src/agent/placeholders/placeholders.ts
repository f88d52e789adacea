import { setImmediate } from 'node:timers/promises';
import { addressToBytes } from '../../net/address.ts';
import type { Logger } from '../../ops/logger.ts';
import { errnoName } from '../../sys/errno.ts';
import { HostProblem } from '../host/host.ts';
import { keeperOf, type Keepers, type KeptBound, type Ref } from './keepers.ts';
import { decodePlace, encodePlace } from './placeholder-records.ts';
import { conflictsOf, describeUser, type SocketTable } from '../leases/port-users.ts';
import type { Block } from '../host/sets.ts';

/** How placeholder sockets are opened, as a descriptor or -errno, and known again; src/sys in production. */
export type PlaceholderSockets = Readonly<{
  openBound(address: Uint8Array, port: number, protocol: 'tcp' | 'udp', mark: number): number;
  openPing(address: Uint8Array, identifier: number): number;
  isBound(fd: number, address: Uint8Array, port: number, protocol: 'tcp' | 'udp', mark: number): boolean;
  isPing(fd: number, identifier: number): boolean;
  closeFd(fd: number): void;
}>;

/** Where they live: in processes that outlive this one. */
export type PlaceholderKeepers = Pick<Keepers, 'reserve' | 'put' | 'drop' | 'settle' | 'list' | 'show' | 'mend'>;

export type PlaceholderParts = Readonly<{
  open: PlaceholderSockets;
  keepers: PlaceholderKeepers;
  table: SocketTable;
  /** SO_MARK of every placeholder: how they are told from other people's sockets. */
  mark: number;
  /** How many there may be, and what to do about it if that is too few. */
  budget: Readonly<{ bound_max: number; remedy: string }>;
  log: Pick<Logger, 'warn'>;
}>;

/** Why a block cannot be held: what the kernel said, and about whom. */
export type Refusal = Readonly<{ errno: string; detail: string }>;

const EMFILE = 24;
const ENFILE = 23;
const ENOMEM = 12;
const ENOBUFS = 105;
const EACCES = 13;
const EADDRNOTAVAIL = 99;

/** As many as go into one message to a keeper; the agent has that many of its own descriptors open for a moment. */
const batch_max = 253;
/** Some milliseconds, after which the keepalive may have its turn. */
const batchesAtOnce_max = 4;

type Space = Pick<Block, 'protocol' | 'address'> & Readonly<{ bytes: Uint8Array; name: string }>;
/** `ref` is undefined while the socket is to be opened again: its keeper was lost. `key` by `keyOf`. */
type Claim = Readonly<{ space: Space; port: number; key: string }> & { ref: Ref | undefined; leases: number };
type Opened = Readonly<{ record: Uint8Array; fd: number }>;

/**
 * The sockets that hold what fish has to itself: one per tcp or udp port of an exclusive block, and one per echo
 * identifier of this host. A block is held whole or not at all.
 *
 * They live in the keepers: a socket is opened here, put there and closed here, so that this process may end at any moment
 * and no port is unguarded. What a former agent left in them is taken over by the leases that need it.
 *
 * Identifiers collide across addresses, so one socket serves every lease of the same identifier and is counted. Blocks
 * of proxies have none: their own sockets hold their ports. Nor have shared blocks: there, fish holds 5-tuples.
 */
export class Placeholders {
  readonly #parts: PlaceholderParts;
  readonly #byLease = new Map<string, readonly Claim[]>();
  /** By `keyOf`. */
  readonly #claims = new Map<string, Claim>();
  /** What a former agent held and no lease has asked for yet, by `keyOf`. */
  readonly #left = new Map<string, Ref>();
  readonly #missing = new Set<Claim>();
  #problem: string | undefined;
  #reopened = 0;
  #disbelieved = 0;

  constructor(parts: PlaceholderParts) {
    this.#parts = parts;
  }

  /** How many there are, those included that are to be opened again. */
  get open(): number {
    return this.#claims.size + this.#left.size;
  }

  /** Of those, how many are not there: their keeper was lost, and they cannot be opened again. */
  get missing(): number {
    return this.#missing.size;
  }

  /** Opened again since this agent began, because a keeper was lost. */
  get reopened(): number {
    return this.#reopened;
  }

  /** Found in a keeper and not what their records said, and so closed, since this agent began. */
  get disbelieved(): number {
    return this.#disbelieved;
  }

  /** Why some are missing; undefined when none is. */
  get problem(): string | undefined {
    return this.#missing.size > 0 ? this.#problem : undefined;
  }

  /**
   * Takes over what a former agent left in the keepers. What is not as its record says is closed, so that the lease which needs
   * it has it opened anew. Throws HostProblem when a keeper is lost.
   */
  adopt(kept: readonly KeptBound[]): void {
    const unknown: Ref[] = [];
    const wrong = this.#wrongIn(new Set(kept.map(({ ref }) => keeperOf(ref))));
    for (const { record, ref } of kept) {
      if (wrong.has(ref)) {
        unknown.push(ref);
        continue;
      }
      const place = decodePlace(record);
      const key = place && keyOf(spaceOf(place.protocol, place.address), place.port);
      if (key === undefined || this.#left.has(key)) unknown.push(ref);
      else this.#left.set(key, ref);
    }
    this.#parts.keepers.drop(unknown);
  }

  /** Closes what was taken over and lies in none of these blocks. Throws HostProblem when a keeper is lost. */
  keepOnly(blocks: readonly Block[]): void {
    if (this.#left.size === 0) return;
    const wanted = new Set<string>();
    for (const { protocol, address, ports, mode } of blocks) {
      if (mode === 'shared') continue;
      const space = spaceOf(protocol, addressToBytes(address));
      for (let port = ports.first; port <= ports.last; port++) wanted.add(keyOf(space, port));
    }
    const gone = [...this.#left].filter(([key]) => !wanted.has(key));
    for (const [key] of gone) this.#left.delete(key);
    this.#parts.keepers.drop(gone.map(([, ref]) => ref));
    this.#parts.keepers.settle();
  }

  /**
   * Holds all of the block's ports for a lease; when the kernel refuses one, none. Asked again for the same lease, does
   * nothing. Throws HostProblem when a keeper is lost: then nothing is held, and it may be asked again.
   */
  async hold(lease: string, block: Block): Promise<Refusal | undefined> {
    if (block.mode === 'shared' || this.#byLease.has(lease)) return undefined;
    const { protocol, address } = block;
    const bytes = addressToBytes(address);
    const space: Space = { protocol, address, bytes, name: spaceOf(protocol, bytes) };
    const ports = Array.from({ length: block.ports.last - block.ports.first + 1 }, (_, i) => block.ports.first + i);
    const unheld = ports.filter((port) => !this.#isHeld(keyOf(space.name, port)));
    const { budget, keepers } = this.#parts;
    if (this.open + unheld.length > budget.bound_max) return tooMany(unheld.length, this.open, budget);
    const room = await keepers.reserve(unheld.length);
    if (!room.ok) return { errno: 'EMFILE', detail: room.error };
    const claims: Claim[] = [];
    let refusal: Refusal | undefined;
    let isWhole = false;
    try {
      for (let at = 0; at < ports.length && !refusal; at += batch_max) {
        refusal = this.#claim(space, ports.slice(at, at + batch_max), claims);
        if ((at / batch_max) % batchesAtOnce_max === batchesAtOnce_max - 1) await setImmediate();
      }
      keepers.settle();
      isWhole = refusal === undefined;
    } finally {
      if (!isWhole) this.#release(claims);
    }
    if (isWhole) this.#byLease.set(lease, claims);
    return refusal;
  }

  /** Closes what a lease holds; a lease that holds nothing is fine. A closed placeholder leaves no TIME_WAIT. Throws HostProblem. */
  async close(lease: string): Promise<void> {
    const held = this.#byLease.get(lease);
    if (!held) return;
    this.#byLease.delete(lease);
    this.#release(held);
    this.#parts.keepers.settle();
  }

  /**
   * Brings keepers back that were lost, and opens again what was in them and is not any more; those that somebody else has
   * taken meanwhile are tried again with every call. Throws HostProblem when a keeper cannot be brought back.
   */
  async restore(): Promise<void> {
    const { keepers } = this.#parts;
    const { mended, problem } = await keepers.mend();
    for (const number of mended) this.#compare(number);
    const missing = [...this.#missing];
    if (missing.length > 0) {
      const room = await keepers.reserve(missing.length);
      if (!room.ok) throw new HostProblem(room.error);
      this.#problem = undefined;
      for (let at = 0; at < missing.length; at += batch_max) {
        this.#openAgain(missing.slice(at, at + batch_max));
        if ((at / batch_max) % batchesAtOnce_max === batchesAtOnce_max - 1) await setImmediate();
      }
      keepers.settle();
    }
    if (problem !== undefined) throw new HostProblem(problem);
  }

  /** What is in a keeper that is there again, beside what should be. */
  #compare(number: number): void {
    const { keepers } = this.#parts;
    const there = new Map<string, Ref>();
    const kept = keepers.list(number);
    const wrong = this.#wrongIn(new Set([number]));
    for (const { record, ref } of kept) {
      const place = wrong.has(ref) ? undefined : decodePlace(record);
      there.set(place ? keyOf(spaceOf(place.protocol, place.address), place.port) : `ref ${ref}`, ref);
    }
    for (const [key, claim] of this.#claims) {
      if (claim.ref === undefined || keeperOf(claim.ref) !== number) continue;
      if (there.get(key) === claim.ref) there.delete(key);
      else {
        claim.ref = undefined;
        this.#missing.add(claim);
      }
    }
    for (const [key, ref] of this.#left) {
      if (keeperOf(ref) !== number) continue;
      if (there.get(key) === ref) there.delete(key);
      else this.#left.delete(key);
    }
    keepers.drop([...there.values()]);
  }

  /** What is in these keepers and is not what stands beside it: the kernel is asked about each. */
  #wrongIn(keepers: ReadonlySet<number>): ReadonlySet<Ref> {
    const { open, mark, log } = this.#parts;
    const wrong = new Set<Ref>();
    let first = '';
    for (const number of keepers)
      this.#parts.keepers.show(number, (record, fd, ref) => {
        const place = decodePlace(record);
        // What nobody here can read is dropped without a look.
        const isRight =
          !place ||
          (place.protocol === 'icmp'
            ? open.isPing(fd, place.port)
            : open.isBound(fd, place.address, place.port, place.protocol, mark));
        open.closeFd(fd);
        if (isRight) return;
        if (wrong.size === 0) first = keyOf(spaceOf(place.protocol, place.address), place.port);
        wrong.add(ref);
      });
    this.#disbelieved += wrong.size;
    if (wrong.size > 0)
      log.warn(
        { placeholders: wrong.size, first },
        'in a keeper was something else than stands beside it; it is closed, and what leases need is opened anew',
      );
    return wrong;
  }

  #isHeld(key: string): boolean {
    return this.#claims.has(key) || this.#left.has(key);
  }

  /** Adds to `claims` what it could get; the refusal is about the first that it could not. */
  #claim(space: Space, ports: readonly number[], claims: Claim[]): Refusal | undefined {
    const opened: Claim[] = [];
    const descriptors: Opened[] = [];
    let refusal: Refusal | undefined;
    try {
      for (const port of ports) {
        const key = keyOf(space.name, port);
        const known = this.#claims.get(key);
        if (known) {
          known.leases++;
          claims.push(known);
          continue;
        }
        const claim: Claim = { space, port, key, ref: this.#left.get(key), leases: 1 };
        if (claim.ref === undefined) {
          const fd = this.#open(space, port);
          if (fd < 0) {
            refusal = this.#explain(space, port, -fd);
            break;
          }
          descriptors.push({ record: recordOf(claim), fd });
          opened.push(claim);
        }
        this.#left.delete(key);
        this.#claims.set(key, claim);
        claims.push(claim);
      }
      this.#put(opened, descriptors);
    } finally {
      for (const { fd } of descriptors) this.#parts.open.closeFd(fd);
    }
    return refusal;
  }

  #openAgain(missing: readonly Claim[]): void {
    const opened: Claim[] = [];
    const descriptors: Opened[] = [];
    try {
      for (const claim of missing) {
        const { space, port } = claim;
        const fd = this.#open(space, port);
        if (fd < 0) {
          this.#problem ??= this.#explain(space, port, -fd).detail;
          continue;
        }
        descriptors.push({ record: recordOf(claim), fd });
        opened.push(claim);
      }
      this.#put(opened, descriptors);
    } finally {
      for (const { fd } of descriptors) this.#parts.open.closeFd(fd);
    }
    for (const claim of opened) this.#missing.delete(claim);
    this.#reopened += opened.length;
  }

  #put(claims: readonly Claim[], descriptors: readonly Opened[]): void {
    if (claims.length === 0) return;
    const refs = this.#parts.keepers.put(descriptors);
    for (const [index, claim] of claims.entries()) claim.ref = refs[index];
  }

  #open({ protocol, bytes }: Space, port: number): number {
    const { open, mark } = this.#parts;
    return protocol === 'icmp' ? open.openPing(bytes, port) : open.openBound(bytes, port, protocol, mark);
  }

  #release(claims: readonly Claim[]): void {
    const gone = claims.filter((claim) => --claim.leases === 0);
    for (const claim of gone) {
      this.#claims.delete(claim.key);
      this.#missing.delete(claim);
    }
    this.#parts.keepers.drop(gone.flatMap(({ ref }) => ref ?? []));
  }

  #explain(space: Space, port: number, errno: number): Refusal {
    const { protocol, address } = space;
    const where = `${protocol} ${protocol === 'icmp' ? 'identifier' : 'port'} ${port} of ${address}`;
    if (errno === EMFILE || errno === ENFILE)
      return { errno: errnoName(errno), detail: `${where}: no descriptor left; raise LimitNOFILE or fs.file-max` };
    if (errno === ENOMEM || errno === ENOBUFS)
      return { errno: errnoName(errno), detail: `${where}: the kernel has no memory left for it` };
    if (errno === EACCES && protocol === 'icmp')
      return { errno: 'EACCES', detail: `${where}: net.ipv4.ping_group_range does not include group 0` };
    if (errno === EADDRNOTAVAIL) return { errno: 'EADDRNOTAVAIL', detail: `${where}: the address is not on this host` };
    return { errno: errnoName(errno), detail: `${where}: ${this.#holders(space, port)}` };
  }

  #holders({ protocol, address }: Space, port: number): string {
    const users = conflictsOf(this.#parts.table, {
      protocol,
      address,
      ports: { first: port, last: port },
      mode: 'exclusive',
    });
    const [first, ...others] = users;
    if (!first) return 'the kernel shows no socket there (a TIME_WAIT, or gone meanwhile)';
    return describeUser(this.#parts.table, first) + (others.length > 0 ? ` and ${others.length} more` : '');
  }
}

/** Identifiers are the whole host's, whatever the address. */
const spaceOf = (protocol: Block['protocol'], address: Uint8Array): string =>
  protocol === 'icmp' ? 'icmp' : `${protocol} ${Buffer.from(address).toString('hex')}`;

const keyOf = (space: string, port: number): string => `${space} ${port}`;

const recordOf = ({ space, port }: Claim): Uint8Array =>
  encodePlace({ protocol: space.protocol, address: space.bytes, port });

const tooMany = (wanted: number, open: number, { bound_max, remedy }: PlaceholderParts['budget']): Refusal => ({
  errno: 'EMFILE',
  detail: `${wanted} placeholders wanted, ${open} of ${bound_max} are in use: ${remedy}`,
});
