import { FORWARD, DROP } from './verdicts.ts';

/**
 * Who holds 5-tuples in the kernel, in a shared block. Declared here because it is used here; in production it opens
 * sockets, in tests it is a table.
 */
export interface Placeholders {
  /** Takes a TCP 5-tuple: a handle of 0 or more, or -errno. Addresses are unsigned 32-bit numbers. */
  open(address: number, port: number, remote: number, remotePort: number, binding: 'late' | 'explicit'): number;
  close(handle: number): void;
  /**
   * Takes over the handle of a former process, or thread; false when nothing is held under it, or another tuple, or when it
   * was taken over already.
   */
  adopt(handle: number, address: number, port: number, remote: number, remotePort: number): boolean;
  /** Closes what a former one held and nobody has taken over: how many. */
  settle(): number;
}

/** Linux: somebody else has the tuple, or the port in a way that excludes ours. Another port may be free. */
const EADDRINUSE = 98;
const EADDRNOTAVAIL = 99;

/** What `open` of the budget answers when the tuple is taken. */
export const TAKEN = -1;

/** Placeholders within their stated budget, counted. */
export class PlaceholderBudget {
  readonly #placeholders: Placeholders;
  readonly #max: number;
  held = 0;
  opened = 0;
  /** Tuples that turned out to be taken by sockets of others. */
  taken = 0;
  /** Refusals of any other kind, and the errno (positive) of the last. */
  failed = 0;
  lastErrno = 0;
  /** FORWARD after a success or TAKEN, else the reason why no placeholder can be had at all right now. */
  refusal: number = FORWARD;

  constructor(placeholders: Placeholders, max: number) {
    this.#placeholders = placeholders;
    this.#max = max;
  }

  /** How many more the budget allows. */
  get free(): number {
    return this.#max - this.held;
  }

  /** A handle; or TAKEN, and `refusal` says whether it is worth asking for another port. */
  open(address: number, port: number, remote: number, remotePort: number, binding: 'late' | 'explicit'): number {
    this.refusal = FORWARD;
    if (this.held >= this.#max) {
      this.refusal = DROP.placeholder_budget;
      return TAKEN;
    }
    const handle = this.#placeholders.open(address, port, remote, remotePort, binding);
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

  /** As `Placeholders` has it. What is held already is held, whatever the budget. */
  adopt(handle: number, address: number, port: number, remote: number, remotePort: number): boolean {
    if (!this.#placeholders.adopt(handle, address, port, remote, remotePort)) return false;
    this.held++;
    return true;
  }

  settle(): number {
    return this.#placeholders.settle();
  }

  close(handle: number): void {
    this.held--;
    this.#placeholders.close(handle);
  }
}
