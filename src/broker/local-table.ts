import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { startEngine } from '../engine/remote-engine.ts';
import type { Engine, EngineListeners, EngineOptions } from '../engine/engine.ts';
import { StoreError } from '../leases/store.ts';
import type { Logger } from '../ops/logger.ts';

const day_us = 86_400_000_000;
const hour_us = 3_600_000_000;

/** The server keeps what happened; here it stays for as long as a request may come again, and for a day to look at. */
const kept = { eventsKept: 200_000, answersKeptUs: day_us, historyKeptUs: day_us, auditKeptUs: 24 * hour_us } as const;

export type LocalTable = Readonly<{
  engine: Engine;
  /** Random, made with the table: what its identifiers mean nothing without. */
  epoch: string;
  /** Since when the table knows what was granted here; microseconds since the epoch. */
  bornAt: number;
  /** Where its log ended when it was opened; undefined for one that was made just then. */
  openedAt: number | undefined;
}>;

/** In a thread of its own, so that an fsync keeps nobody waiting; tests do without. */
export type StartEngine = (options: EngineOptions, listeners: EngineListeners) => Promise<Engine>;

/**
 * Opens the table of this host's broker, or makes it. One that was cut short or damaged is put aside, and another is made in
 * its place: what it knew is in doubt, and a table that knows nothing treats it so (see `leases/adoption.ts`). It begins by
 * the clock, so that no identifier means two things. One that was restored together with its mark only the server can tell
 * (see `upstream.ts`). Throws a `StoreError` where neither can be done.
 */
export async function openLocalTable(
  directory: string,
  log: Pick<Logger, 'error' | 'warn'>,
  start: StartEngine = startEngine,
): Promise<LocalTable> {
  const open = () => openIn(directory, log, start);
  try {
    const table = await open();
    const doubt = await doubtOf(table.engine);
    if (doubt === undefined) return table;
    await table.engine.close();
    putAside(directory, doubt, log);
  } catch (error) {
    if (!(error instanceof StoreError) || error.failure !== 'corrupt') throw error;
    putAside(directory, error.message, log);
  }
  return open();
}

async function openIn(directory: string, log: Pick<Logger, 'error' | 'warn'>, start: StartEngine): Promise<LocalTable> {
  const listeners: EngineListeners = {
    onTrouble: ({ kind, message, cause, command }) => log.error({ err: cause, trouble: kind, command }, message),
    onSweepFailure: (error) => log.warn({ err: error }, 'a sweep of the broker failed; the next one tries again'),
    onDeath: (reason) => log.error({ reason }, 'the table of the broker is gone: nothing is granted here any more'),
  };
  const isNew = !existsSync(join(directory, 'fishery.db'));
  const location = { url: undefined, directory, beginsByClock: true };
  const engine = await start({ location, ...kept }, listeners);
  const { id, beganAt } = await engine.reader.epoch();
  const openedAt = isNew ? undefined : await engine.reader.revision();
  return { engine, epoch: id, bornAt: beganAt, openedAt };
}

async function doubtOf({ reader }: Engine): Promise<string | undefined> {
  const { confirmedAt, detail } = await reader.epoch();
  return confirmedAt === null ? detail : undefined;
}

/** Of a table that is closed. The next one to be opened there is a new one. */
export function putAside(directory: string, why: string, log: Pick<Logger, 'error'>): void {
  let aside = `${directory}.lost`;
  for (let number = 2; existsSync(aside); number++) aside = `${directory}.lost-${number}`;
  renameSync(directory, aside);
  log.error(
    { aside },
    `the broker's table is not what it was (${why}): it begins anew, and ports that were granted before are ` +
      'granted again when nobody is on them and they have rested',
  );
}
