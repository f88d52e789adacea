import type { Keepers } from '../placeholders/keepers.ts';
import { OwnLinks, type KeptLink, type LinkStore } from './link-store.ts';
import { labelOf, shortLabel } from './program.ts';

/** Slots of the first keeper's singletons, a link each: for all uplinks and client interfaces that settings may have. */
export const linkSlots = { first: 128, count: 128 } as const;

const recordBytes = 28;
/** IFNAMSIZ: a device's name and at least one zero. Behind it the program's label. */
const nameBytes = 16;

type Kept = Pick<Keepers, 'keep' | 'remove' | 'takeKept'>;

/**
 * Links that a keeper has open as well: the program stays on its device when the agent ends, however that may be. What it
 * steers waits in the TUN device, which the keeper has, too.
 */
export class KeptLinks implements LinkStore {
  readonly #own: OwnLinks;
  readonly #slots = new Map<string, number>();
  #keepers: Kept | undefined;

  constructor(close: (fd: number) => void) {
    this.#own = new OwnLinks(close);
  }

  /** From now on they are kept; what a former agent left there is taken over. Throws HostProblem when the keeper is lost. */
  begin(keepers: Kept): void {
    this.#keepers = keepers;
    for (let slot = linkSlots.first; slot < linkSlots.first + linkSlots.count; slot++) {
      const found = keepers.takeKept(slot);
      if (!found) continue;
      const link = { ...decode(found.record), fd: found.fd };
      this.#slots.set(link.device, slot);
      this.keep(link);
    }
  }

  list(): readonly KeptLink[] {
    return this.#own.list();
  }

  keep(link: KeptLink): void {
    this.#own.keep(link);
    const slot = this.#slots.get(link.device) ?? this.#freeSlot();
    this.#slots.set(link.device, slot);
    this.#keepers?.keep(slot, encode(link), link.fd);
  }

  drop(device: string): void {
    const slot = this.#slots.get(device);
    this.#slots.delete(device);
    if (slot !== undefined) this.#keepers?.remove(slot);
    this.#own.drop(device);
  }

  /** What the keeper has open stays. */
  close(): void {
    this.#own.close();
  }

  #freeSlot(): number {
    const used = new Set(this.#slots.values());
    for (let slot = linkSlots.first; slot < linkSlots.first + linkSlots.count; slot++) if (!used.has(slot)) return slot;
    throw new Error(`more than ${linkSlots.count} devices to steer from`);
  }
}

function encode({ device, label }: KeptLink): Uint8Array {
  const record = new Uint8Array(recordBytes);
  record.set(Buffer.from(device).subarray(0, nameBytes - 1));
  record.set(Buffer.from(shortLabel(label)), nameBytes);
  return record;
}

function decode(record: Uint8Array): Pick<KeptLink, 'device' | 'label'> {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString().replace(/\0.*$/, '');
  return { device: text(record.subarray(0, nameBytes)), label: labelOf(text(record.subarray(nameBytes))) };
}
