import { SysError } from './errno.ts';
import { NETLINK_NETFILTER, Netlink } from './netlink.ts';
import type { Acknowledgement } from './netlink-message.ts';
import {
  readElements,
  writeElementsDump,
  writeTransaction,
  type ElementChange,
  type NftElement,
} from './nft-message.ts';

export { concatKey, hostOrder32, portField, protocolField } from './nft-message.ts';
export type { ElementChange, NftElement } from './nft-message.ts';

/** One transaction is one request, which is sent whole. */
export const elementsPerTransaction_max = 100_000;
const dumpAttempts_max = 10;

/**
 * Elements of the sets of one nftables table, over raw netlink: some ten microseconds each, against six milliseconds of
 * an `nft` process. For hash sets, maps and intervals not. Every call is one transaction: all of it or nothing.
 * Throws SysError: ENOENT (table, set or element), EINVAL (keys of another length), EPERM.
 */
export class NftElements {
  readonly #table: string;
  readonly #family: 'inet';
  readonly #netlink: Netlink;

  constructor(table: string, family: 'inet' = 'inet') {
    this.#table = table;
    this.#family = family;
    this.#netlink = new Netlink(NETLINK_NETFILTER);
  }

  /** What listeners see beside changes made here. */
  get portid(): number {
    return this.#netlink.portid;
  }

  /** Elements that exist already are no error. */
  add(set: string, keys: readonly Uint8Array[]): void {
    this.commit([{ change: 'add', set, keys }]);
  }

  /** ENOENT, and nothing removed, when one is missing; unless `missing` is 'ignore'. */
  remove(set: string, keys: readonly Uint8Array[], o: { missing: 'refuse' | 'ignore' } = { missing: 'refuse' }): void {
    this.commit([{ change: o.missing === 'ignore' ? 'discard' : 'remove', set, keys }]);
  }

  /**
   * Makes an element live for `timeoutMs` from now, whether it is there, is about to expire, has expired or never was.
   * The set needs `flags timeout`, and no `size`: an expired element that was not collected yet counts against it.
   */
  renew(set: string, key: Uint8Array, timeoutMs: number): void {
    this.commit([{ change: 'renew', set, key, timeoutMs }]);
  }

  list(set: string): Uint8Array[] {
    return this.elements(set).map(({ key }) => key);
  }

  /**
   * The elements that have not expired, with their timeouts, in no particular order. The kernel lists a large set in
   * pieces and finds its place again by counting; when the hash table grew or shrank in between, it lists some elements
   * twice and leaves out as many, without a sign. So an answer with a duplicate is read again. (A set with a `size` has a
   * table that never changes.)
   */
  elements(set: string): NftElement[] {
    const elements = this.#netlink.dumpWhole<NftElement>({
      write: (writer) => writeElementsDump(writer, { table: this.#table, set }),
      collect: (found, buffer, message) => readElements(buffer, message, found),
      attempts_max: dumpAttempts_max,
      isWhole: allDifferent,
    });
    if (!elements.ok) throw this.#refused('list', set, elements.error);
    return elements.value;
  }

  /** Several changes, to several sets, as one transaction: packets see all of them or none. */
  commit(changes: readonly ElementChange[]): void {
    const count = changes.reduce((sum, change) => sum + ('keys' in change ? change.keys.length : 2), 0);
    if (count === 0) return;
    if (count > elementsPerTransaction_max)
      throw new RangeError(`${count} elements in one transaction; at most ${elementsPerTransaction_max}`);
    const refusal = this.#netlink.exchange(writeTransaction(this.#netlink.start(), this.#table, changes));
    const { change, set } = changes[0]!;
    if (refusal) throw this.#refused(change, changes.length === 1 ? set : `${set} …`, refusal);
  }

  close(): void {
    this.#netlink.close();
  }

  #refused(change: string, set: string, { errno, text }: Acknowledgement): SysError {
    return new SysError(
      `nft ${change}`,
      errno,
      `${this.#family} ${this.#table} ${set}${text === '' ? '' : `: ${text}`}`,
    );
  }
}

const allDifferent = (elements: readonly NftElement[]): boolean =>
  new Set(elements.map(({ key }) => Buffer.from(key).toString('latin1'))).size === elements.length;
