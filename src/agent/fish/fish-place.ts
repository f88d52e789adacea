import { randomBytes } from 'node:crypto';
import { copyMemory } from '../../fish/flows/flow-copy.ts';
import { FlowMemory, sameSizes, type MemorySizes } from '../../fish/flows/flow-memory.ts';
import { opaqueBytes, singletons } from '../../keeper/protocol.ts';
import type { Logger } from '../../ops/logger.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { createSharedMemory, mapShared, unmap, viewOfMapping, type Mapping } from '../../sys/shared-memory.ts';
import { fitMtu, hasDevice, narrowestMtu, openTun, queueLength, retakeTun } from '../../sys/tun.ts';
import type { KeptFlows } from './operations.ts';

/** What keeps fish's descriptors beyond this process; all throw when it is lost. */
export interface FishKeeping {
  /** The keepers to which fish's thread connects. */
  flowKeepers(): KeptFlows['keepers'];
  /** The descriptor stays open here until `release`, or `remove`, was called. */
  keep(slot: number, record: Uint8Array, fd: number): void;
  takeKept(slot: number): Readonly<{ record: Uint8Array; fd: number }> | undefined;
  /** The descriptor is about to be closed here; what is kept stays. */
  release(slot: number): void;
  /** Closes what is kept in this slot. */
  remove(slot: number): void;
}

export type FishPlaceParts = Readonly<{
  /** Name of the TUN device. */
  tun: string;
  /** Between which it lies: see `fitMtu`. */
  neighbours: readonly string[];
  /** How many packets it holds while nobody reads them. */
  queue_packets: number;
  /** null: nothing outlives the process. */
  keeping: FishKeeping | null;
  log: Pick<Logger, 'info' | 'warn'>;
}>;

const tunOptions = { persist: true, offload: true } as const;

type Flows = Readonly<{ fd: number; mapping: Mapping; memory: FlowMemory | undefined }>;

/**
 * What fish's thread works on, and what is there before and after it: the TUN device and the flow table. Both are put into the
 * keeper when they are made; who comes next, thread or process, finds them there.
 */
export class FishPlace {
  readonly #parts: FishPlaceParts;
  #tun: Readonly<{ fd: number; vnetHeaderBytes: 0 | 10 }> | undefined;
  #flows: Flows | undefined;

  constructor(parts: FishPlaceParts) {
    this.#parts = parts;
  }

  /** Whether a former process, or thread, has left flows: then fish can begin before anybody has said with what. */
  hasFlows(): boolean {
    return this.#findFlows() !== undefined && this.#findTun() !== undefined;
  }

  /** The device, as it was left, or attached to anew: the host has it by then. Throws SysError, or what keeping throws. */
  openTun(): Readonly<{ fd: number; vnetHeaderBytes: 0 | 10 }> {
    const { tun, queue_packets } = this.#parts;
    const found = this.#findTun() ?? this.#attach();
    // Only then: a queue whose length is changed drops what comes meanwhile.
    if (queueLength(tun) !== queue_packets) queueLength(tun, queue_packets);
    return found;
  }

  /** The largest packet that passes the TUN and what it lies between, in bytes; undefined when none of them is there. Throws SysError. */
  narrowestMtu(): number | undefined {
    const { tun, neighbours } = this.#parts;
    return narrowestMtu([tun, ...neighbours]);
  }

  /** The flow table, as it was left if it can be read, moved into one of this size if need be; null when nothing is kept. */
  openFlows(sizes: MemorySizes): KeptFlows | null {
    const { keeping, log } = this.#parts;
    if (!keeping) return null;
    const found = this.#findFlows();
    const before = found?.memory;
    if (found && before && sameSizes(before.sizes, sizes))
      return { memory: found.mapping, keepers: keeping.flowKeepers() };
    const fd = createSharedMemory('fishery-flows', FlowMemory.bytesFor(sizes));
    const mapping = mapShared(fd);
    const [high = 0, low = 0] = new Uint32Array(new Uint8Array(randomBytes(8)).buffer);
    // Its placeholders are known by the table that they belong to, so a table that was moved is the same one.
    const memory = FlowMemory.format(viewOfMapping(mapping), sizes, before?.identity ?? [high, low]);
    if (before) log.info({ ...copyMemory(before, memory) }, 'the flow table was moved into one of another size');
    keeping.keep(singletons.flowTable, new Uint8Array(opaqueBytes), fd);
    this.#forgetFlows();
    this.#flows = { fd, mapping, memory };
    return { memory: mapping, keepers: keeping.flowKeepers() };
  }

  /** The next table is an empty one: with this one, fish dies again and again. */
  discardFlows(): void {
    const found = this.#findFlows();
    if (!found) return;
    this.#parts.keeping?.remove(singletons.flowTable);
    this.#forgetFlows();
  }

  /** Closes what is open here. With `leave` the keeper has it for a successor, else it goes there, too. */
  close({ leave }: Readonly<{ leave: boolean }>): void {
    const { keeping } = this.#parts;
    for (const slot of [singletons.tun, singletons.flowTable])
      if (leave) keeping?.release(slot);
      else keeping?.remove(slot);
    if (this.#tun) closeFd(this.#tun.fd);
    this.#tun = undefined;
    this.#forgetFlows();
  }

  #attach(): Readonly<{ fd: number; vnetHeaderBytes: 0 | 10 }> {
    const { tun, keeping, neighbours } = this.#parts;
    const isThere = hasDevice(tun);
    const { fd, vnetHeaderBytes } = openTun(tun, tunOptions);
    // Somebody has deleted the one that the agent had made.
    if (!isThere) fitMtu(tun, neighbours);
    this.#tun = { fd, vnetHeaderBytes };
    keeping?.keep(singletons.tun, new Uint8Array(opaqueBytes), fd);
    return this.#tun;
  }

  #findTun(): Readonly<{ fd: number; vnetHeaderBytes: 0 | 10 }> | undefined {
    const { tun, keeping } = this.#parts;
    if (!this.#tun) {
      const kept = keeping?.takeKept(singletons.tun);
      if (!kept) return undefined;
      this.#tun = { fd: kept.fd, vnetHeaderBytes: 0 };
    }
    const { fd } = this.#tun;
    const retaken = retakeTun(fd, tun, tunOptions);
    if (retaken) {
      this.#tun = { fd, vnetHeaderBytes: retaken.vnetHeaderBytes };
      return this.#tun;
    }
    // It was deleted, or the settings name another by now.
    keeping?.remove(singletons.tun);
    closeFd(fd);
    this.#tun = undefined;
    return undefined;
  }

  #findFlows(): Flows | undefined {
    const { keeping, log } = this.#parts;
    if (this.#flows) return this.#flows;
    const kept = keeping?.takeKept(singletons.flowTable);
    if (!kept) return undefined;
    const mapping = mapShared(kept.fd);
    const memory = FlowMemory.open(viewOfMapping(mapping));
    if (!memory.ok) log.warn(`the flows of a former fish are lost: ${memory.error}`);
    this.#flows = { fd: kept.fd, mapping, memory: memory.ok ? memory.value : undefined };
    return this.#flows;
  }

  #forgetFlows(): void {
    if (!this.#flows) return;
    unmap(this.#flows.mapping);
    closeFd(this.#flows.fd);
    this.#flows = undefined;
  }
}
