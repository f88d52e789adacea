import { NO_ADDRESS, type AddressBook } from '../packet/address-book.ts';
import { isRoutableUnicast, isRoutableUnicast6, type PrefixList } from '../packet/addresses.ts';
import type { BlockTable } from '../ports/blocks.ts';
import type { FishConfig } from '../config.ts';
import type { FlowLife } from './flow-life.ts';
import type { FlowMemory } from './flow-memory.ts';
import type { MappingKeys } from './mapping.ts';
import { FREE, LIVE, NONE, RESTING } from './flow-table.ts';
import { IPV6, isEcho, isTcp, isUdp, UDP6 } from '../packet/packet.ts';
import type { PlaceholderBudget } from '../ports/placeholders.ts';

/**
 * What became of the rows that somebody else had written.
 *
 * - `flows`: taken over, those that rest included.
 * - `damaged`: they hold what no flow can hold.
 * - `without_block`: of a block that is not remembered, or is another by now.
 * - `not_allowed`: of clients that the settings do not name any more, or by a mapping that is another by now.
 * - `without_placeholder`: in a shared block, and the kernel would not give back their 5-tuple.
 * - `placeholders_reopened`: of flows that were taken over. `placeholders_left_over`: of none, so they were closed.
 * - `placeholders_disbelieved`: what was kept as a placeholder was something else, or none any more, so it was closed.
 * - `blocks_damaged`: blocks that cannot be what was written.
 */
export const adoptionCounts = [
  'flows',
  'damaged',
  'without_block',
  'not_allowed',
  'without_placeholder',
  'placeholders_reopened',
  'placeholders_left_over',
  'placeholders_disbelieved',
  'blocks_damaged',
] as const;
export type AdoptionCount = (typeof adoptionCounts)[number];
export type AdoptionCounts = Readonly<Record<AdoptionCount, number>>;

/** Flows in use that were taken over, and rows that were not. */
export type TookOver = Readonly<{ live: number; lost: number }>;

type AdoptionParts = Readonly<{
  config: FishConfig;
  memory: FlowMemory;
  book: AddressBook;
  clients: PrefixList;
  blocks: BlockTable;
  placeholders: PlaceholderBudget;
  life: FlowLife;
  keys: MappingKeys;
}>;

/**
 * Takes over the flows in a memory, row by row, and trusts none: whoever wrote it was killed in the middle of something, or
 * was another version with a bug. A row that cannot be a flow of ours is dropped and counted; the others go on as they were,
 * with what was left of their time.
 */
export class Adoption {
  readonly #parts: AdoptionParts;
  readonly #counts: Record<AdoptionCount, number>;
  /** The next row: first the flows, then the peers. */
  #next = 0;
  #isDone = false;
  /** Once it is done. */
  tookOver: TookOver | null = null;

  constructor(parts: AdoptionParts) {
    this.#parts = parts;
    this.#counts = Object.fromEntries(adoptionCounts.map((name) => [name, 0])) as Record<AdoptionCount, number>;
  }

  get isUnderWay(): boolean {
    return !this.#isDone;
  }

  counts(): AdoptionCounts {
    return { ...this.#counts };
  }

  /** Looks at no more than `max` rows; how many they were: less than `max` means that it is done. */
  step(nowMs: number, max: number): number {
    if (this.#isDone) return 0;
    const { life, book, blocks, memory, placeholders } = this.#parts;
    const { flows, peers } = life;
    if (this.#next === 0) {
      this.#counts.blocks_damaged = blocks.adopt();
      memory.countAdoption();
    }
    const { capacity } = flows;
    const isUsed = (flow: number) => flows.state[flow] !== FREE;
    const isPeer = (flow: number, remote: number) => isUsed(flow) && this.#holdPeer(flow, remote);
    const rows = capacity + (peers ? memory.sizes.peersMax : 0);
    const until = Math.min(rows, this.#next + max);
    const looked = until - this.#next;
    for (; this.#next < until; this.#next++) {
      if (peers !== null && this.#next >= capacity) {
        const flow = peers.adopt(this.#next - capacity, isPeer);
        if (flow !== NONE) life.clients.addPeer(flows.client[flow]!, flows.protocol[flow]!);
      } else if (!isUsed(this.#next)) flows.free(this.#next);
      else this.#take(this.#next, nowMs);
    }
    if (looked < max) {
      this.#counts.placeholders_left_over = placeholders.settle();
      this.#counts.placeholders_disbelieved = placeholders.disbelieved;
      book.settle();
      this.#isDone = true;
      const { damaged, without_block, not_allowed, without_placeholder } = this.#counts;
      this.tookOver = { live: life.live, lost: damaged + without_block + not_allowed + without_placeholder };
    }
    return looked;
  }

  #take(flow: number, nowMs: number): void {
    const { life } = this.#parts;
    const problem = this.#problemOf(flow, nowMs);
    if (problem !== undefined) {
      this.#counts[problem]++;
      // A placeholder that it names is left over, unless another row has it.
      life.flows.free(flow);
      return;
    }
    this.#counts.flows++;
    life.adopt(flow, this.#deadlineOf(flow, nowMs), nowMs);
  }

  #problemOf(flow: number, nowMs: number): AdoptionCount | undefined {
    const { flows } = this.#parts.life;
    if (!this.#isPossible(flow, nowMs)) return 'damaged';
    const [protocol, leased, leasedPort] = [flows.protocol[flow]!, flows.leased[flow]!, flows.leasedPort[flow]!];
    if (!this.#parts.blocks.hasTuple(flows.block[flow]!, protocol, leased, leasedPort)) return 'without_block';
    if (!this.#parts.keys.isKey(protocol, flows.remote[flow]!, flows.remotePort[flow]!)) return 'not_allowed';
    const client = flows.client[flow]!;
    if (!this.#isClient(protocol, client) || this.#parts.blocks.isLeased(protocol, client)) return 'not_allowed';
    // Two flows cannot have one key: the second of them was never a flow of ours.
    if (!flows.hasRoomFor(flow)) return 'damaged';
    if (!this.#holdAddresses(flow)) return 'damaged';
    if (this.#hold(flow)) return undefined;
    this.#letGoAddresses(flow);
    return 'without_placeholder';
  }

  #isClient(protocol: number, client: number): boolean {
    const { clients, book } = this.#parts;
    if (protocol < IPV6) return clients.contains(client);
    const { words } = book;
    const at = client * 4;
    // The row is one of the book: see `#isRoutable`.
    return clients.contains6(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
  }

  #isRoutable(protocol: number, address: number): boolean {
    if (protocol < IPV6) return isRoutableUnicast(address);
    const { words, capacity } = this.#parts.book;
    if (address === NO_ADDRESS || address > capacity) return false;
    return isRoutableUnicast6(words[address * 4]!, words[address * 4 + 1]!);
  }

  /** False when another row of the book has the same address: this one was never written by us. */
  #holdAddresses(flow: number): boolean {
    const { book, life } = this.#parts;
    const { protocol, client, remote } = life.flows;
    if (protocol[flow]! < IPV6) return true;
    if (!book.adopt(client[flow]!)) return false;
    if (remote[flow] === NO_ADDRESS || book.adopt(remote[flow]!)) return true;
    book.letGo(client[flow]!);
    return false;
  }

  #letGoAddresses(flow: number): void {
    const { book, life } = this.#parts;
    const { protocol, client, remote } = life.flows;
    if (protocol[flow]! < IPV6) return;
    book.letGo(client[flow]!);
    if (remote[flow] !== NO_ADDRESS) book.letGo(remote[flow]!);
  }

  #holdPeer(flow: number, remote: number): boolean {
    const { book, life } = this.#parts;
    const protocol = life.flows.protocol[flow]!;
    return protocol < IPV6 || (protocol === UDP6 && this.#isRoutable(protocol, remote) && book.adopt(remote));
  }

  /** Whether it is a flow at all, by itself. */
  #isPossible(flow: number, nowMs: number): boolean {
    const { flows, tcp } = this.#parts.life;
    const { columns } = this.#parts.memory;
    const [state, protocol, attached] = [flows.state[flow], flows.protocol[flow]!, columns.flows.attached[flow]!];
    const [remote, remotePort] = [flows.remote[flow]!, flows.remotePort[flow]!];
    const [openedMs, deadlineMs] = [flows.openedMs[flow]!, columns.flows.deadlineMs[flow]!];
    if ((state !== LIVE && state !== RESTING) || attached > 1 || (state === LIVE && attached === 0)) return false;
    if (!(openedMs >= 0 && openedMs <= nowMs && deadlineMs >= openedMs && deadlineMs < Infinity)) return false;
    if (!this.#isRoutable(protocol, flows.client[flow]!)) return false;
    // How much of the remote its key has is a question of the settings.
    if (isUdp(protocol))
      return (remote === 0 ? remotePort === 0 : this.#isRoutable(protocol, remote)) && this.#hasPorts(flow);
    if (!this.#isRoutable(protocol, remote)) return false;
    if (isEcho(protocol)) return remotePort === 0;
    return isTcp(protocol) && remotePort !== 0 && this.#hasPorts(flow) && tcp.isPlausible(flow);
  }

  #hasPorts(flow: number): boolean {
    const { flows } = this.#parts.life;
    return flows.clientPort[flow] !== 0 && flows.leasedPort[flow] !== 0;
  }

  /** In a shared block, whether its 5-tuple is held: as it was, or else anew, if nobody has taken it meanwhile. */
  #hold(flow: number): boolean {
    const { placeholders, blocks, life } = this.#parts;
    const { flows } = life;
    const slot = flows.block[flow]!;
    const before = flows.placeholder[flow]!;
    if (blocks.shared[slot] === 0) {
      flows.placeholder[flow] = NONE;
      return true;
    }
    const [leased, leasedPort] = [flows.leased[flow]!, flows.leasedPort[flow]!];
    const [remote, remotePort] = [flows.remote[flow]!, flows.remotePort[flow]!];
    const protocol = flows.protocol[flow]!;
    if (before !== NONE && placeholders.adopt(before, protocol, leased, leasedPort, remote, remotePort)) return true;
    const anew = placeholders.open(protocol, leased, leasedPort, remote, remotePort, blocks.bindingOf(slot));
    if (anew < 0) return false;
    flows.placeholder[flow] = anew;
    this.#counts.placeholders_reopened++;
    return true;
  }

  /** No later than a flow of today could have it: timers may be shorter by now, or the row wrong. */
  #deadlineOf(flow: number, nowMs: number): number {
    const { life, config, memory } = this.#parts;
    const { tcpRestS, tcpResetRestS, udpRestS, icmpRestS, ...lasting } = config.timers;
    const timers =
      life.flows.state[flow] === LIVE ? Object.values(lasting) : [tcpRestS, tcpResetRestS, udpRestS, icmpRestS];
    return Math.min(memory.columns.flows.deadlineMs[flow]!, nowMs + Math.max(...timers) * 1_000);
  }
}
