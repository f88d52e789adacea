import type { LeasedBlock } from '../../fish/ports/blocks.ts';
import type { Logger } from '../../ops/logger.ts';
import type { CgroupTable } from './ownership.ts';
import type { Refusal } from '../placeholders/placeholders.ts';
import type { SocketTable } from './port-users.ts';
import type { Block, Element } from '../host/sets.ts';
import type { OwnerMemory } from './owner-memory.ts';

export type FishRefusal = Readonly<{ lease: string; reason: string }>;

/** Whoever holds ports on fish's behalf. Both may take their time: the descriptors may live in another process. */
export type PortClaims = Readonly<{
  /** All of the block or nothing. Asked again for the same lease, does nothing. */
  hold(lease: string, block: Block): Refusal | undefined | Promise<Refusal | undefined>;
  /** A lease that holds nothing is fine. */
  close(lease: string): void | Promise<void>;
}>;

/** What the life of a lease asks of the rest of the agent. */
export type LeaseHost = Readonly<{
  /** One transaction; what exists, or is gone, is no error. Makes the sets first that the table still lacks. */
  changeElements(add: readonly Element[], remove: readonly Element[]): Promise<void>;
  placeholders: PortClaims;
  sockets: SocketTable;
  cgroups: CgroupTable;
  /** By whom holders are known, over restarts of the agent. */
  owners: Pick<OwnerMemory, 'formerOf' | 'note' | 'keepOnly' | 'flush'>;
  /** Tells fish all its blocks; flows of blocks that are gone have ended when it resolves. Throws when fish is away. */
  setFishBlocks(blocks: readonly LeasedBlock[]): Promise<readonly FishRefusal[]>;
  /** Fish opens no flow until it is told its blocks again, and those it had have ended when it resolves. Throws when fish is away. */
  fenceFish(): Promise<void>;
  /** Whether a socket's mark says that it is one of fish's placeholders. */
  isOurMark(mark: number): boolean;
  log: Pick<Logger, 'warn'>;
  /** Milliseconds, never backwards. */
  now(): number;
}>;

/** What is to be told to the server about a lease. */
export type LeaseOutcome = Readonly<{ lease: string; token: string }> &
  (Readonly<{ state: 'active' | 'empty' | 'unit_gone' }> | (Readonly<{ state: 'refused' }> & Refusal));
