import { familyOf, ipv4ToNumber, type Address } from '../net/address.ts';
import { formatPorts, isAlignedBlock, portCount, rangesOverlap, type PortRange } from '../net/ports.ts';
import type { Protocol } from '../net/protocol.ts';
import { AddressSet } from './addresses.ts';
import { eraseBlock, readBlock, writeBlock } from './block-rows.ts';
import type { BlockColumns } from './flow-memory.ts';
import { flowProtocol } from './packet.ts';
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
  readonly #blocks: (LeasedBlock | undefined)[];
  readonly #slotByKey = new Map<string, number>();
  /** The flows of each slot, live and resting. */
  readonly flows: Uint32Array;
  readonly address: Uint32Array;
  readonly firstPort: Uint16Array;
  /** 1 for a block whose 5-tuples need placeholders. */
  readonly shared: Uint8Array;
  leasedAddresses = new AddressSet([]);
  #spaces = new Map<number, PortSpace>();
  /** Leases whose ports no new flow may get. */
  #draining: ReadonlySet<string> = new Set();

  constructor(rows: BlockColumns) {
    const blocksMax = rows.leaseBytes.length;
    this.#rows = rows;
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
      const block = readBlock(this.#rows, slot);
      if (block && !this.#slotByKey.has(keyOf(block)) && this.#problemOf(block) === undefined) this.#fill(slot, block);
      else {
        eraseBlock(this.#rows, slot);
        refused++;
      }
    }
    this.#rebuild();
    return refused;
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
    if (familyOf(block.address) === 6) return 'IPv6 is not translated yet';
    if (!isAlignedBlock(block.ports)) return 'the ports are not an aligned power-of-two block';
    if (block.ports.first === 0 && block.protocol !== 'icmp') return 'port 0 cannot be sent from';
    // UDP and ICMP sockets do not exclude each other by 5-tuple, so there is nothing that could arbitrate.
    if (block.mode === 'shared' && block.protocol !== 'tcp') return 'only TCP blocks can be shared';
    if (block.mode === 'shared' && block.binding === null) return 'a shared block needs a binding';
    return this.#clashOf(block);
  }

  /** By the address column first: a whole set of thousands is compared pair by pair. */
  #clashOf(block: LeasedBlock): string | undefined {
    const address = ipv4ToNumber(block.address);
    for (const slot of this.#slotByKey.values()) {
      if (this.address[slot] !== address) continue;
      const { protocol, ports, lease } = this.at(slot);
      if (protocol === block.protocol && rangesOverlap(ports, block.ports))
        return `it overlaps ${formatPorts(ports)} of ${lease}`;
    }
    return undefined;
  }

  #occupy(block: LeasedBlock): string | undefined {
    const slot = this.#blocks.indexOf(undefined);
    if (slot < 0) return `there are ${this.#blocks.length} blocks already`;
    this.#fill(slot, block);
    writeBlock(this.#rows, slot, block);
    return undefined;
  }

  #fill(slot: number, block: LeasedBlock): void {
    this.#blocks[slot] = block;
    this.#slotByKey.set(keyOf(block), slot);
    this.flows[slot] = 0;
    this.address[slot] = ipv4ToNumber(block.address);
    this.firstPort[slot] = block.ports.first;
    this.shared[slot] = block.mode === 'shared' ? 1 : 0;
  }

  #vacate(slot: number): void {
    this.#slotByKey.delete(keyOf(this.at(slot)));
    this.#blocks[slot] = undefined;
    eraseBlock(this.#rows, slot);
  }

  #rebuild(): void {
    const slots = this.slots();
    this.leasedAddresses = new AddressSet([...new Set(slots.map((slot) => this.at(slot).address))]);
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
