import type { AddressBook } from '../packet/address-book.ts';
import { IPV6 } from '../packet/packet.ts';
import { FORWARD, DROP } from '../verdicts.ts';

/**
 * Who holds 5-tuples in the kernel, in a shared block. Declared here because it is used here; in production it opens
 * sockets, in tests it is a table.
 */
export interface Placeholders {
  /** Those of a former one that were not what they were kept as, and so were closed: none of them can be adopted. */
  readonly disbelieved: number;
  /** Takes a TCP 5-tuple: a handle of 0 or more, or -errno. Addresses are unsigned 32-bit numbers. */
  open(address: number, port: number, remote: number, remotePort: number, binding: 'late' | 'explicit'): number;
  /** The same over IPv6: addresses are 16 bytes in network order, which are the caller's again when it returns. */
  open6(
    address: Uint8Array,
    port: number,
    remote: Uint8Array,
    remotePort: number,
    binding: 'late' | 'explicit',
  ): number;
  close(handle: number): void;
  /**
   * Takes over the handle of a former process, or thread; false when nothing is held under it, or another tuple, or when it
   * was taken over already.
   */
  adopt(handle: number, address: number, port: number, remote: number, remotePort: number): boolean;
  adopt6(handle: number, address: Uint8Array, port: number, remote: Uint8Array, remotePort: number): boolean;
  /** Closes what a former one held and nobody has taken over: how many. */
  settle(): number;
}

/** Linux: somebody else has the tuple, or the port in a way that excludes ours. Another port may be free. */
const EADDRINUSE = 98;
const EADDRNOTAVAIL = 99;

/** What `open` of the budget answers when the tuple is taken. */
export const TAKEN = -1;

/** Placeholders within their stated budget, counted. Addresses are as flows have them. */
export class PlaceholderBudget {
  readonly #placeholders: Placeholders;
  readonly #book: AddressBook;
  readonly #max: number;
  /** What an IPv6 placeholder is asked for with. */
  readonly #address = new DataView(new ArrayBuffer(16));
  readonly #remote = new DataView(new ArrayBuffer(16));
  readonly #addressBytes = new Uint8Array(this.#address.buffer);
  readonly #remoteBytes = new Uint8Array(this.#remote.buffer);
  held = 0;
  opened = 0;
  /** Tuples that turned out to be taken by sockets of others. */
  taken = 0;
  /** Refusals of any other kind, and the errno (positive) of the last. */
  failed = 0;
  lastErrno = 0;
  /** FORWARD after a success or TAKEN, else the reason why no placeholder can be had at all right now. */
  refusal: number = FORWARD;

  constructor(placeholders: Placeholders, book: AddressBook, max: number) {
    this.#placeholders = placeholders;
    this.#book = book;
    this.#max = max;
  }

  /** Of those, held for flows that yield them to whoever needs one: see `YieldingFlows`. */
  yielding = 0;

  /** How many more the budget allows, those included that are had by closing another. */
  get free(): number {
    return this.#max - this.held + this.yielding;
  }

  /** Whether one has to be closed before another can be opened. */
  get isSpent(): boolean {
    return this.held >= this.#max;
  }

  /** A handle; or TAKEN, and `refusal` says whether it is worth asking for another port. */
  open(
    protocol: number,
    address: number,
    port: number,
    remote: number,
    remotePort: number,
    binding: 'late' | 'explicit',
  ): number {
    this.refusal = FORWARD;
    if (this.isSpent) {
      this.refusal = DROP.placeholder_budget;
      return TAKEN;
    }
    const handle = this.#ask(protocol, address, port, remote, remotePort, binding);
    if (handle >= 0) {
      this.held++;
      this.opened++;
      return handle;
    }
    if (handle === -EADDRINUSE || handle === -EADDRNOTAVAIL) {
      this.taken++;
    } else {
      this.failed++;
      this.lastErrno = -handle;
      this.refusal = DROP.placeholder_failed;
    }
    return TAKEN;
  }

  #ask(
    protocol: number,
    address: number,
    port: number,
    remote: number,
    remotePort: number,
    binding: 'late' | 'explicit',
  ): number {
    if (protocol < IPV6) return this.#placeholders.open(address, port, remote, remotePort, binding);
    this.#read(address, remote);
    return this.#placeholders.open6(this.#addressBytes, port, this.#remoteBytes, remotePort, binding);
  }

  #read(address: number, remote: number): void {
    const { words } = this.#book;
    for (let i = 0; i < 4; i++) {
      // Both are rows of the book, which have four words each.
      this.#address.setUint32(i * 4, words[address * 4 + i]!);
      this.#remote.setUint32(i * 4, words[remote * 4 + i]!);
    }
  }

  /** As `Placeholders` has it. What is held already is held, whatever the budget. */
  adopt(handle: number, protocol: number, address: number, port: number, remote: number, remotePort: number): boolean {
    if (protocol >= IPV6) this.#read(address, remote);
    const isOurs =
      protocol < IPV6
        ? this.#placeholders.adopt(handle, address, port, remote, remotePort)
        : this.#placeholders.adopt6(handle, this.#addressBytes, port, this.#remoteBytes, remotePort);
    if (!isOurs) return false;
    this.held++;
    return true;
  }

  /** As `Placeholders` has it. */
  get disbelieved(): number {
    return this.#placeholders.disbelieved;
  }

  settle(): number {
    return this.#placeholders.settle();
  }

  close(handle: number): void {
    this.held--;
    this.#placeholders.close(handle);
  }
}
