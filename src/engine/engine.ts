import { randomUUID } from 'node:crypto';
import { openStore, type StoreLocation } from '../db/open.ts';
import { LeaseService, type Trouble } from '../leases/lease-service.ts';
import type { Reader, Relay } from '../leases/store.ts';
import { Sweeper } from '../leases/sweeper.ts';
import { SteadyClock } from '../ops/clock.ts';

export type EngineOptions = Readonly<{
  location: StoreLocation;
  /** Newest entries of the log that are kept for followers who were away. */
  eventsKept: number;
  /** For how long answers are kept at least for their requests to come again, in microseconds. */
  answersKeptUs: number;
  /** How long it stays known who had what (microseconds). */
  historyKeptUs: number;
  /** For how long the audit log is kept at least, in microseconds. */
  auditKeptUs: number;
}>;

/** What an engine has to say unasked. */
export type EngineListeners = Readonly<{
  onTrouble: (trouble: Trouble) => void;
  /** The first of the sweeps that fail in a row. */
  onSweepFailure: (error: unknown) => void;
  /** An engine in a thread of its own is no more, without having been asked to end. Nothing can be done with it any longer. */
  onDeath: (reason: string) => void;
}>;

/** The table and everything that changes it: rules, store and the loop that time drives. */
export type Engine = Readonly<{
  leases: Pick<LeaseService, 'execute' | 'health' | 'onEvents'>;
  reader: Reader;
  /** Calls back when other servers may have committed to the same database. */
  onForeignCommit: (wake: () => void) => () => void;
  /** To other servers on the same database; undefined where there can be none. */
  relay: Relay | undefined;
  startSweeping: () => Promise<void>;
  /** Resolves when the step that runs is over. */
  stopSweeping: () => Promise<void>;
  /** Takes no more commands, answers those taken, and closes the store. */
  close: () => Promise<void>;
}>;

/** Opens the engine in this thread. Throws a `StoreError` that says what to do. */
export async function openEngine(
  { location, eventsKept, answersKeptUs, auditKeptUs, historyKeptUs }: EngineOptions,
  { onTrouble, onSweepFailure }: Omit<EngineListeners, 'onDeath'>,
): Promise<Engine> {
  const clock = new SteadyClock();
  const store = await openStore(location, { newEpoch: randomUUID, nowUs: () => clock.nowUs() });
  const leases = new LeaseService({ store, clock, onTrouble });
  // What the store found out about itself when it was opened is in the log before anybody is answered.
  const { id } = await store.reader.epoch();
  const look = { epoch: id, revision: 0, witness: 'this server', newId: randomUUID() };
  await leases.execute({ kind: 'weighSeen', ...look });
  const sweeper = new Sweeper({
    execute: (sweep) => leases.execute(sweep),
    store,
    clock,
    eventsKept,
    answersKeptUs,
    historyKeptUs,
    auditKeptUs,
    onError: onSweepFailure,
  });
  return {
    leases,
    reader: store.reader,
    onForeignCommit: (wake) => store.onForeignCommit(wake),
    relay: store.relay,
    startSweeping: async () => sweeper.start(),
    stopSweeping: () => sweeper.stop(),
    close: async () => {
      await sweeper.stop();
      await leases.close();
      await store.close();
    },
  };
}
