import type { Placeholders } from '../../fish/ports/placeholders.ts';
import type { KeeperClient } from '../../keeper/client.ts';
import { kept_max, kinds, opaqueBytes, recordsPerMessage_max } from '../../keeper/protocol.ts';
import { Slots } from '../../keeper/slots.ts';
import { EMFILE } from '../../sys/constants.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { namesOfConnected, type TcpNames } from '../../sys/placeholder-check.ts';
import { openConnected4, openConnected6 } from '../../sys/placeholders.ts';

/** What these ask of a keeper. */
export type FlowKeeper = Pick<KeeperClient, 'hello' | 'problem' | 'putBatch' | 'drop' | 'take' | 'takeSome' | 'stats'>;

export type KeptSocketsParts = Readonly<{
  /** The number of a keeper is part of every handle, so it must be the same for a successor. */
  keepers: readonly Readonly<{ number: number; keeper: FlowKeeper; flows_max: number }>[];
  /** Of the flow table whose flows they belong to. */
  identity: readonly [number, number];
  /** The SO_MARK of all of them; 0: none. */
  mark: number;
  /** How they are opened; the kernel's own way in production. */
  open?: typeof openConnected4;
  open6?: typeof openConnected6;
  /** How they are known again. */
  namesOf?: typeof namesOfConnected;
}>;

/** Slots given up between two messages to a keeper. */
const dropsAtOnce_max = 256;
/** Sockets open here until a message takes them to their keeper: it can carry so many. */
const putsAtOnce_max = recordsPerMessage_max;
/** Of a record: whose it is; the tuple comes behind. */
const identityBytes = 8;

type Member = Readonly<{
  number: number;
  keeper: FlowKeeper;
  slots: Slots;
  most: number;
  givenUp: number[];
  /** On their way to the keeper, and how many of each there are. */
  leaving: Leaving;
}> & {
  /** The first slot of the next look. */
  lookFrom: number;
};

type Leaving = {
  count: number;
  readonly slots: Int32Array;
  readonly records: Uint8Array;
  readonly descriptors: Int32Array;
};

const nothingLeaves = (): Leaving => ({
  count: 0,
  slots: new Int32Array(putsAtOnce_max),
  records: new Uint8Array(putsAtOnce_max * opaqueBytes),
  descriptors: new Int32Array(putsAtOnce_max),
});

/**
 * Placeholders that outlive this process: a handle is a keeper and a slot in it. They go to their keepers many at a time,
 * when `deliver` is called: before the first packet of any of their flows leaves. From then on nothing of them is open here.
 * Beside each stands whose it is, table and tuple, so that a successor believes no slot that is another's; and it asks each socket
 * itself whether it holds that tuple (some 5 µs each, before anything else).
 *
 * When a keeper is lost, `deliver` and whatever else needs it throw: then it is not known what is held, and fish has to begin
 * anew, with another keeper.
 */
export class KeptSockets implements Placeholders {
  readonly #parts: KeptSocketsParts;
  readonly #open: typeof openConnected4;
  readonly #open6: typeof openConnected6;
  readonly #members: readonly Member[];
  readonly #record = new Uint8Array(opaqueBytes);
  readonly #view = new DataView(this.#record.buffer);
  /** Opened, and in no keeper yet: no packet of their flows may leave. */
  undelivered = 0;
  /** What a former fish has left there and this one has not taken over, by handle. */
  readonly #left = new Map<number, Uint8Array>();
  #disbelieved = 0;

  /** Throws KeeperLostError. */
  constructor(parts: KeptSocketsParts) {
    this.#parts = parts;
    this.#open = parts.open ?? openConnected4;
    this.#open6 = parts.open6 ?? openConnected6;
    this.#members = parts.keepers.map(({ number, keeper, flows_max }) => {
      const slots = new Slots(keeper.hello.slots_max, this.#findLeft(number, keeper));
      // A keeper that is asked for more than it can keep hangs up.
      const others = keeper.hello.kept.reduce((sum, count, kind) => (kind === kinds.flow ? sum : sum + count), 0);
      return {
        number,
        keeper,
        slots,
        most: Math.min(flows_max, keeper.hello.descriptors_max - others),
        givenUp: [],
        lookFrom: 0,
        leaving: nothingLeaves(),
      };
    });
  }

  get disbelieved(): number {
    return this.#disbelieved;
  }

  /**
   * What a former fish has left in a keeper, by slot. What is not as its record says is closed before anything else, so that
   * its flow can have its tuple held anew.
   */
  #findLeft(number: number, keeper: FlowKeeper): readonly number[] {
    const slots: number[] = [];
    const wrong: number[] = [];
    for (const { slot, record, fd } of keeper.take(kinds.flow)) {
      if (this.#isAsKept(record, fd)) {
        slots.push(slot);
        this.#left.set(number * kept_max + slot, record);
      } else wrong.push(slot);
    }
    if (wrong.length === 0) return slots;
    this.#disbelieved += wrong.length;
    keeper.drop(kinds.flow, wrong);
    keeper.stats();
    return slots;
  }

  /** Closes the descriptor. */
  #isAsKept(record: Uint8Array, fd: number): boolean {
    const { namesOf = namesOfConnected, mark } = this.#parts;
    const names = namesOf(fd, mark);
    closeFd(fd);
    return names !== undefined && isSameFrom(identityBytes, record, this.#recordOfNames(names));
  }

  /**
   * Looks at the next 253 of each keeper, from the last look on and round again: how many do not hold their tuples any more,
   * because somebody has destroyed them (SOCK_DESTROY) or a packet that was not led to fish has reached them. Throws
   * KeeperLostError.
   */
  lookAtSome(): number {
    this.flush();
    let lost = 0;
    for (const member of this.#members) {
      const { found, next } = member.keeper.takeSome(kinds.flow, member.lookFrom);
      for (const { record, fd } of found) if (!this.#isAsKept(record, fd)) lost++;
      member.lookFrom = next;
    }
    return lost;
  }

  open(address: number, port: number, remote: number, remotePort: number, binding: 'late' | 'explicit'): number {
    const member = this.#withRoom();
    if (!member) return -EMFILE;
    const fd = this.#open(address, port, remote, remotePort, binding, this.#parts.mark);
    return fd < 0 ? fd : this.#keep(member, fd, this.#recordOf(address, port, remote, remotePort));
  }

  open6(
    address: Uint8Array,
    port: number,
    remote: Uint8Array,
    remotePort: number,
    binding: 'late' | 'explicit',
  ): number {
    const member = this.#withRoom();
    if (!member) return -EMFILE;
    const fd = this.#open6(address, port, remote, remotePort, binding, this.#parts.mark);
    return fd < 0 ? fd : this.#keep(member, fd, this.#recordOf6(address, port, remote, remotePort));
  }

  #withRoom(): Member | undefined {
    return this.#members.find(({ slots, most }) => slots.used < most);
  }

  /** On its way into the keeper: the handle, or -errno. */
  #keep(member: Member, fd: number, record: Uint8Array): number {
    const slot = member.slots.take();
    if (slot === undefined) {
      closeFd(fd);
      return -EMFILE;
    }
    const { leaving } = member;
    leaving.slots[leaving.count] = slot;
    leaving.descriptors[leaving.count] = fd;
    leaving.records.set(record, leaving.count * opaqueBytes);
    leaving.count++;
    this.undelivered++;
    if (leaving.count === putsAtOnce_max) this.deliver();
    return member.number * kept_max + slot;
  }

  /** Has the keepers take what was opened since. Throws when one is lost. */
  deliver(): void {
    if (this.undelivered === 0) return;
    for (const member of this.#members) deliverOne(member);
    this.undelivered = 0;
  }

  close(handle: number): void {
    const number = Math.floor(handle / kept_max);
    const member = this.#members.find((each) => each.number === number);
    if (!member) throw new Error(`handle ${handle} is of no keeper`);
    // A slot that is given up here may be on its way there.
    this.deliver();
    member.slots.give(handle % kept_max);
    member.givenUp.push(handle % kept_max);
    if (member.givenUp.length >= dropsAtOnce_max) flushOne(member);
  }

  adopt(handle: number, address: number, port: number, remote: number, remotePort: number): boolean {
    return this.#takeOver(handle, this.#recordOf(address, port, remote, remotePort));
  }

  adopt6(handle: number, address: Uint8Array, port: number, remote: Uint8Array, remotePort: number): boolean {
    return this.#takeOver(handle, this.#recordOf6(address, port, remote, remotePort));
  }

  #takeOver(handle: number, own: Uint8Array): boolean {
    const kept = this.#left.get(handle);
    if (kept === undefined) return false;
    if (!isSameFrom(0, kept, own)) return false;
    return this.#left.delete(handle);
  }

  settle(): number {
    const leftOver = [...this.#left.keys()];
    this.#left.clear();
    for (const handle of leftOver) this.close(handle);
    this.flush();
    return leftOver.length;
  }

  /** Tells the keepers what was opened and what was given up. One that is lost has closed it already. */
  flush(): void {
    this.deliver();
    for (const member of this.#members) flushOne(member);
  }

  /** Waits until everything that was given up is closed. Throws KeeperLostError. */
  confirm(): void {
    this.flush();
    for (const { keeper } of this.#members) keeper.stats();
  }

  #recordOfNames({ local, port, remote, remotePort }: TcpNames): Uint8Array {
    return local.length === 4
      ? this.#recordOf(wordAt(local, 0), port, wordAt(remote, 0), remotePort)
      : this.#recordOf6(local, port, remote, remotePort);
  }

  #recordOf(address: number, port: number, remote: number, remotePort: number): Uint8Array {
    const [high, low] = this.#parts.identity;
    this.#view.setUint32(0, high);
    this.#view.setUint32(4, low);
    this.#view.setUint32(8, address);
    this.#view.setUint32(12, remote);
    this.#view.setUint16(16, port);
    this.#view.setUint16(18, remotePort);
    this.#view.setUint32(20, 0);
    this.#view.setUint32(24, 0);
    return this.#record;
  }

  /**
   * Two IPv6 addresses are longer than a record: the local one is mixed into the remote. For one local address the remote can be
   * told exactly, and hosts have few. The ports, never 0, stand where those of IPv4 have zeros.
   */
  #recordOf6(address: Uint8Array, port: number, remote: Uint8Array, remotePort: number): Uint8Array {
    const [high, low] = this.#parts.identity;
    this.#view.setUint32(0, high);
    this.#view.setUint32(4, low);
    for (let i = 0; i < 16; i += 4)
      this.#view.setUint32(8 + i, Math.imul(wordAt(address, i), 0x9e3779b1) ^ wordAt(remote, i));
    this.#view.setUint16(24, port);
    this.#view.setUint16(26, remotePort);
    return this.#record;
  }
}

function deliverOne(member: Member): void {
  const { keeper, leaving } = member;
  if (leaving.count === 0) return;
  // First: a slot that was given up must not be closed by a message that comes after its next one.
  flushOne(member);
  const { count, slots, records, descriptors } = leaving;
  const refusal = keeper.putBatch(kinds.flow, count, slots, records, descriptors);
  // Every one of them is below the count.
  for (let index = 0; index < count; index++) closeFd(descriptors[index]!);
  leaving.count = 0;
  if (refusal < 0) throw new Error(keeper.problem ?? 'a keeper is lost');
}

/** Two records are of one length. */
function isSameFrom(first: number, one: Uint8Array, other: Uint8Array): boolean {
  for (let at = first; at < opaqueBytes; at++) if (one[at] !== other[at]) return false;
  return true;
}

/** Of an address, whose bytes are all there. */
const wordAt = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;

function flushOne({ keeper, givenUp }: Member): void {
  if (givenUp.length === 0) return;
  keeper.drop(kinds.flow, givenUp);
  givenUp.length = 0;
}
