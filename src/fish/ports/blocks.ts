import { familyOf, ipv4ToNumber, type Address, type Family } from '../../net/address.ts';
import { formatPorts, isAlignedBlock, portCount, rangesOverlap, type PortRange } from '../../net/ports.ts';
import type { Protocol } from '../../net/protocol.ts';
import { NO_ADDRESS, type AddressBook } from '../packet/address-book.ts';
import { AddressSet } from '../packet/addresses.ts';
import { eraseBlock, readBlock, writeBlock } from './block-rows.ts';
import type { BlockColumns } from '../flows/flow-memory.ts';
import { flowProtocol, IPV6 } from '../packet/packet.ts';
import { LeasedPorts } from './leased-ports.ts';
import { PortSpace } from './port-space.ts';

/** Ports that fish may send from: one aligned power-of-two block of one lease. */
export type LeasedBlock = Readonly<{
  lease: string;
  address: Address;
  protocol: Protocol;
  ports: PortRange;
  mode: 'exclusive' | 'shared';
  /** How every user of a shared block takes its port; null for an exclusive one. */
  binding: 'late' | 'explicit' | null;
}>;

/** A block that cannot be used; the others are. */
export type RefusedBlock = Readonly<{ block: LeasedBlock; reason: string }>;

export type BlockChange = Readonly<{ added: number; refused: readonly RefusedBlock[] }>;

/** What makes two descriptions the same block, whose flows go on: all of it. */
const keyOf = (block: LeasedBlock): string =>
  `${block.lease} ${block.address} ${block.protocol} ${formatPorts(block.ports)} ${block.mode} ${block.binding}`;

const protocolOf = (block: LeasedBlock): number => flowProtocol(block.protocol, familyOf(block.address));

/**
 * The blocks in use, each in a slot whose number its flows keep. Everything here is cold but the look-ups by number. They
 * are written down beside the flows, so that a successor knows whose those are.
 */
export class BlockTable {
  readonly #rows: BlockColumns;
  readonly #book: AddressBook;
  readonly #blocks: (LeasedBlock | undefined)[];
  readonly #slotByKey = new Map<string, number>();
  /** The flows of each slot, live and resting. */
  readonly flows: Uint32Array;
  /** Numbers: see `AddressBook`. */
  readonly address: Uint32Array;
  readonly firstPort: Uint16Array;
  /** 1 for a block whose 5-tuples need placeholders. */
  readonly shared: Uint8Array;
  leasedAddresses = new AddressSet([]);
  leasedAddresses6 = new AddressSet([]);
  #leasedPorts = new LeasedPorts([]);
  #spaces = new Map<number, PortSpace>();
  /** Leases whose ports no new flow may get. */
  #draining: ReadonlySet<string> = new Set();

  constructor(rows: BlockColumns, book: AddressBook) {
    const blocksMax = rows.leaseBytes.length;
    this.#rows = rows;
    this.#book = book;
    this.#blocks = new Array<LeasedBlock | undefined>(blocksMax).fill(undefined);
    this.flows = new Uint32Array(blocksMax);
    this.address = new Uint32Array(blocksMax);
    this.firstPort = new Uint16Array(blocksMax);
    this.shared = new Uint8Array(blocksMax);
  }

  /** Takes over the blocks that are written down, each in its slot; how many of the slots hold something that cannot be. */
  adopt(): number {
    let refused = 0;
    for (let slot = 0; slot < this.#blocks.length; slot++) {
      if (this.#rows.leaseBytes[slot] === 0) continue;
      const number = this.#rows.address[slot]!;
      const block = readBlock(this.#rows, slot, (protocol, address) => this.#textOf(protocol, address));
      const isSound = block && !this.#slotByKey.has(keyOf(block)) && this.#problemOf(block) === undefined;
      if (isSound && (familyOf(block.address) === 4 || this.#book.adopt(number))) this.#fill(slot, block, number);
      else {
        eraseBlock(this.#rows, slot);
        refused++;
      }
    }
    this.#rebuild();
    return refused;
  }

  /** Whether the address is leased: of the family of this protocol, which an address's number does not tell. */
  isLeased(protocol: number, address: number): boolean {
    return (protocol < IPV6 ? this.leasedAddresses : this.leasedAddresses6).has(address | 0);
  }

  #textOf(protocol: number, address: number): Address | undefined {
    const isPossible = protocol < IPV6 || (address !== NO_ADDRESS && address <= this.#book.capacity);
    return isPossible ? this.#book.textOf(protocol, address) : undefined;
  }

  /** Whether this tuple is in the block of this slot; false for a slot that has none. */
  hasTuple(slot: number, protocol: number, address: number, port: number): boolean {
    const block = this.#blocks[slot];
    return (
      block !== undefined &&
      protocolOf(block) === protocol &&
      this.address[slot] === address &&
      block.ports.first <= port &&
      port <= block.ports.last
    );
  }

  /** Whether some block has this tuple. */
  isLeasedPort(protocol: number, address: number, port: number): boolean {
    return this.#leasedPorts.has(protocol, address | 0, port);
  }

  /** The slots that `replace(wanted)` would take away. Their flows have to end first: a flow's lease is its block's. */
  removedBy(wanted: readonly LeasedBlock[]): number[] {
    const keys = new Set(wanted.map(keyOf));
    return [...this.#slotByKey].filter(([key]) => !keys.has(key)).map(([, slot]) => slot);
  }

  /** Makes these the blocks; those that are the same as before keep their slots. */
  replace(wanted: readonly LeasedBlock[]): BlockChange {
    for (const slot of this.removedBy(wanted)) this.#vacate(slot);
    const fresh = [...new Map(wanted.map((block) => [keyOf(block), block])).values()].filter(
      (block) => !this.#slotByKey.has(keyOf(block)),
    );
    const refused = fresh.flatMap((block) => {
      const reason = this.#problemOf(block) ?? this.#occupy(block);
      return reason === undefined ? [] : [{ block, reason }];
    });
    this.#rebuild();
    return { added: fresh.length - refused.length, refused };
  }

  /** From now on new flows get no port of these leases, and of no others; the flows that they have go on. */
  drain(leases: readonly string[]): void {
    this.#draining = new Set(leases);
    this.#rebuild();
  }

  isDraining(slot: number): boolean {
    return this.#draining.has(this.at(slot).lease);
  }

  /** The number of its protocol, as flows have it. */
  protocolOf(slot: number): number {
    return protocolOf(this.at(slot));
  }

  list(): LeasedBlock[] {
    return [...this.#slotByKey.values()].map((slot) => this.at(slot));
  }

  slots(): number[] {
    return [...this.#slotByKey.values()];
  }

  at(slot: number): LeasedBlock {
    const block = this.#blocks[slot];
    if (!block) throw new Error(`no block in slot ${slot}`);
    return block;
  }

  /** Of the shared block in this slot. */
  bindingOf(slot: number): 'late' | 'explicit' {
    return this.#blocks[slot]?.binding === 'explicit' ? 'explicit' : 'late';
  }

  /** The ports that a new flow of a protocol may get, or undefined when there are none. */
  spaceFor(protocol: number): PortSpace | undefined {
    return this.#spaces.get(protocol);
  }

  /** How many those are. */
  portsOf(protocol: number): number {
    return this.#spaces.get(protocol)?.whole.total ?? 0;
  }

  #problemOf(block: LeasedBlock): string | undefined {
    if (familyOf(block.address) === 6 && this.#book.capacity === 0) return 'no client prefix is one of IPv6';
    if (isUnspecified(block.address)) return `${block.address} is no address to send from`;
    if (!isAlignedBlock(block.ports)) return 'the ports are not an aligned power-of-two block';
    if (block.ports.first === 0 && block.protocol !== 'icmp') return 'port 0 cannot be sent from';
    // UDP and ICMP sockets do not exclude each other by 5-tuple, so there is nothing that could arbitrate.
    if (block.mode === 'shared' && block.protocol !== 'tcp') return 'only TCP blocks can be shared';
    if (block.mode === 'shared' && block.binding === null) return 'a shared block needs a binding';
    return this.#clashOf(block);
  }

  /** By the address column first: a whole set of thousands is compared pair by pair. */
  #clashOf(block: LeasedBlock): string | undefined {
    const address = this.#book.numberOf(block.address);
    for (const slot of this.#slotByKey.values()) {
      if (this.address[slot] !== address) continue;
      const other = this.at(slot);
      const { ports, lease } = other;
      if (protocolOf(other) === protocolOf(block) && rangesOverlap(ports, block.ports))
        return `it overlaps ${formatPorts(ports)} of ${lease}`;
    }
    return undefined;
  }

  #occupy(block: LeasedBlock): string | undefined {
    const slot = this.#blocks.indexOf(undefined);
    if (slot < 0) return `there are ${this.#blocks.length} blocks already`;
    const address = familyOf(block.address) === 4 ? ipv4ToNumber(block.address) : this.#book.holdText(block.address);
    if (address === NO_ADDRESS) return `the address book is full: ${this.#book.capacity} IPv6 addresses`;
    this.#fill(slot, block, address);
    writeBlock(this.#rows, slot, block, address);
    return undefined;
  }

  #fill(slot: number, block: LeasedBlock, address: number): void {
    this.#blocks[slot] = block;
    this.#slotByKey.set(keyOf(block), slot);
    this.flows[slot] = 0;
    this.address[slot] = address;
    this.firstPort[slot] = block.ports.first;
    this.shared[slot] = block.mode === 'shared' ? 1 : 0;
  }

  #vacate(slot: number): void {
    const block = this.at(slot);
    this.#slotByKey.delete(keyOf(block));
    this.#blocks[slot] = undefined;
    eraseBlock(this.#rows, slot);
    // slot is a row of the column, and of IPv6 its address was held.
    if (familyOf(block.address) === 6) this.#book.letGo(this.address[slot]!);
  }

  #rebuild(): void {
    const slots = this.slots();
    const byFamily = Map.groupBy(slots, (slot) => familyOf(this.at(slot).address));
    const setOf = (family: Family) =>
      new AddressSet([...new Set(byFamily.get(family)?.map((slot) => this.address[slot]!))]);
    this.leasedAddresses = setOf(4);
    this.leasedAddresses6 = setOf(6);
    this.#leasedPorts = new LeasedPorts(
      slots.map((slot) => ({
        protocol: this.protocolOf(slot),
        address: this.address[slot]!,
        ports: this.at(slot).ports,
      })),
    );
    const open = slots.filter((slot) => !this.isDraining(slot));
    const byProtocol = Map.groupBy(open, (slot) => protocolOf(this.at(slot)));
    this.#spaces = new Map(
      [...byProtocol].map(([protocol, members]) => [
        protocol,
        new PortSpace(
          // slot is a row of the column.
          members.map((slot) => ({ slot, address: this.address[slot]!, ports: portCount(this.at(slot).ports) })),
        ),
      ]),
    );
  }
}

const isUnspecified = (address: Address): boolean => address === '0.0.0.0' || address === '::';
