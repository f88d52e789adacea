import { createHash } from 'node:crypto';
import { ENOENT } from './constants.ts';
import { SysError } from './errno.ts';
import { NETLINK_NETFILTER, Netlink } from './netlink.ts';
import type { Acknowledgement, Message, MessageWriter } from './netlink-message.ts';
import {
  readChain,
  type NftChain,
  readCounter,
  readSet,
  readTableFlags,
  stablePart,
  writeChainDump,
  writeObjectDump,
  writeRuleDump,
  writeSetDump,
  writeTableDeletion,
  writeTableRequest,
  type NftCounter,
} from './nft-table-message.ts';

export { changedTable, changesChains, type NftChange } from './nft-table-message.ts';

const dumpAttempts_max = 10;
const NFT_TABLE_F_DORMANT = 1;

/** One nftables table of family inet as a whole: what is in it, without a process. Elements are `nft-elements`' affair. */
export class NftTable {
  readonly #table: string;
  readonly #netlink = new Netlink(NETLINK_NETFILTER);

  constructor(table: string) {
    this.#table = table;
  }

  get portid(): number {
    return this.#netlink.portid;
  }

  /**
   * The names of the table's sets, whether it is dormant (its hooks are not called), and a digest of all that the kernel shows of its flags, chains, rules, sets and objects,
   * handles included: it changes when anybody changes or replaces any of it, and not with elements, packets or time.
   * undefined when there is no such table.
   */
  look(): Readonly<{ digest: string; isDormant: boolean; sets: readonly string[] }> | undefined {
    const hash = createHash('sha256');
    const flags = this.#flags();
    if (flags === undefined) return undefined;
    hash.update(String(flags));
    for (const write of [writeChainDump, writeRuleDump, writeObjectDump]) {
      const parts = this.#list(
        'list',
        (writer) => write(writer, this.#table),
        (buffer, message) => stablePart(buffer, message, this.#table),
      );
      for (const part of parts ?? []) hash.update(part);
    }
    const sets = this.#list(
      'list sets',
      (writer) => writeSetDump(writer, this.#table),
      (buffer, message) => readSet(buffer, message, this.#table),
    );
    for (const set of sets ?? []) hash.update(set.description);
    return {
      digest: hash.digest('hex'),
      isDormant: (flags & NFT_TABLE_F_DORMANT) !== 0,
      sets: (sets ?? []).map(({ name }) => name),
    };
  }

  /** Those that it has; none where there is no such table. */
  chains(): readonly NftChain[] {
    const chains = this.#list(
      'list',
      (writer) => writeChainDump(writer, this.#table),
      (buffer, message) => readChain(buffer, message),
    );
    return (chains ?? []).filter(({ isInet, table }) => isInet && table === this.#table);
  }

  /** Whether this chain is called for packets: it is of this type, at this hook (its number), and the table is not dormant. */
  isHooked({ name, type, hook, priority }: Pick<NftChain, 'name' | 'type' | 'hook' | 'priority'>): boolean {
    const flags = this.#flags();
    if (flags === undefined || (flags & NFT_TABLE_F_DORMANT) !== 0) return false;
    return this.chains().some(
      (chain) => chain.name === name && chain.type === type && chain.hook === hook && chain.priority === priority,
    );
  }

  counters(): readonly NftCounter[] {
    const write = (writer: MessageWriter) => writeObjectDump(writer, this.#table);
    return this.#list('list counters', write, (buffer, message) => readCounter(buffer, message, this.#table)) ?? [];
  }

  /** One that is not there is no error. */
  remove(): void {
    const refusal = this.#netlink.exchange([writeTableDeletion(this.#netlink.start(), this.#table)]);
    if (refusal && refusal.errno !== ENOENT) throw this.#refused('delete table', refusal);
  }

  close(): void {
    this.#netlink.close();
  }

  /** undefined when there is no such table. */
  #flags(): number | undefined {
    const [flags] =
      this.#list(
        'table',
        (writer) => writeTableRequest(writer, this.#table),
        (buffer, message) => readTableFlags(buffer, message),
      ) ?? [];
    return flags;
  }

  /** undefined for ENOENT: the table is not there. */
  #list<T>(
    what: string,
    write: (writer: MessageWriter) => void,
    read: (buffer: Uint8Array, message: Message) => T | undefined,
  ): T[] | undefined {
    const list = this.#netlink.dumpWhole<T>({
      write,
      collect: (found, buffer, message) => {
        const entry = read(buffer, message);
        if (entry !== undefined) found.push(entry);
      },
      attempts_max: dumpAttempts_max,
    });
    if (list.ok) return list.value;
    if (list.error.errno === ENOENT) return undefined;
    throw this.#refused(what, list.error);
  }

  #refused(what: string, { errno, text }: Acknowledgement): SysError {
    return new SysError(`nft ${what}`, errno, `inet ${this.#table}${text === '' ? '' : `: ${text}`}`);
  }
}
