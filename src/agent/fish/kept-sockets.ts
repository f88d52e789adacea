import type { Placeholders } from '../../fish/placeholders.ts';
import type { KeeperClient } from '../../keeper/client.ts';
import { kinds, opaqueBytes } from '../../keeper/protocol.ts';
import { Slots } from '../../keeper/slots.ts';
import { EMFILE } from '../../sys/constants.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { openConnected4 } from '../../sys/placeholders.ts';

/** What these ask of a keeper. */
export type FlowKeeper = Pick<KeeperClient, 'hello' | 'problem' | 'put' | 'drop' | 'list' | 'stats'>;

export type KeptSocketsParts = Readonly<{
  keeper: FlowKeeper;
  /** Of the flow table whose flows they belong to. */
  identity: readonly [number, number];
  /** The SO_MARK of all of them; 0: none. */
  mark: number;
  /** How they are opened; the kernel's own way in production. */
  open?: typeof openConnected4;
}>;

/** Slots given up between two messages to the keeper. */
const dropsAtOnce_max = 256;

/**
 * Placeholders that outlive this process: a handle is a slot of the keeper, which has the socket before the flow's first packet
 * leaves. Nothing of it stays open here. Beside each stands whose it is, table and tuple, so that a successor believes no slot
 * that is another's.
 *
 * When the keeper is lost, `open` and whatever else needs it throw: then it is not known what is held, and fish has to begin
 * anew, with another keeper.
 */
export class KeptSockets implements Placeholders {
  readonly #parts: KeptSocketsParts;
  readonly #open: typeof openConnected4;
  readonly #slots: Slots;
  readonly #record = new Uint8Array(opaqueBytes);
  readonly #view = new DataView(this.#record.buffer);
  /** What a former fish has left there and this one has not taken over, by slot. */
  readonly #left: Map<number, Uint8Array>;
  readonly #givenUp: number[] = [];

  /** Throws KeeperLostError. */
  constructor(parts: KeptSocketsParts) {
    this.#parts = parts;
    this.#open = parts.open ?? openConnected4;
    this.#left = new Map(Array.from(parts.keeper.list(kinds.flow), ({ slot, record }) => [slot, record]));
    this.#slots = new Slots(parts.keeper.hello.slots_max, this.#left.keys());
  }

  open(address: number, port: number, remote: number, remotePort: number, binding: 'late' | 'explicit'): number {
    const { keeper, mark } = this.#parts;
    const fd = this.#open(address, port, remote, remotePort, binding, mark);
    if (fd < 0) return fd;
    // First: a slot that was given up must not be closed by a message that comes after its next one.
    this.flush();
    const slot = this.#slots.take();
    const refusal =
      slot === undefined
        ? -EMFILE
        : keeper.put(kinds.flow, slot, this.#recordOf(address, port, remote, remotePort), fd);
    closeFd(fd);
    if (slot === undefined) return refusal;
    if (refusal < 0) throw new Error(keeper.problem ?? 'the keeper is lost');
    return slot;
  }

  close(handle: number): void {
    this.#slots.give(handle);
    this.#givenUp.push(handle);
    if (this.#givenUp.length >= dropsAtOnce_max) this.flush();
  }

  adopt(handle: number, address: number, port: number, remote: number, remotePort: number): boolean {
    const kept = this.#left.get(handle);
    if (kept === undefined) return false;
    const own = this.#recordOf(address, port, remote, remotePort);
    if (kept.some((byte, i) => byte !== own[i])) return false;
    return this.#left.delete(handle);
  }

  settle(): number {
    const leftOver = [...this.#left.keys()];
    this.#left.clear();
    for (const slot of leftOver) this.close(slot);
    this.flush();
    return leftOver.length;
  }

  /** Tells the keeper what was given up. A keeper that is lost has closed it already. */
  flush(): void {
    if (this.#givenUp.length === 0) return;
    this.#parts.keeper.drop(kinds.flow, this.#givenUp);
    this.#givenUp.length = 0;
  }

  /** Waits until everything that was given up is closed. Throws KeeperLostError. */
  confirm(): void {
    this.flush();
    this.#parts.keeper.stats();
  }

  #recordOf(address: number, port: number, remote: number, remotePort: number): Uint8Array {
    const [high, low] = this.#parts.identity;
    this.#view.setUint32(0, high);
    this.#view.setUint32(4, low);
    this.#view.setUint32(8, address);
    this.#view.setUint32(12, remote);
    this.#view.setUint16(16, port);
    this.#view.setUint16(18, remotePort);
    return this.#record;
  }
}
