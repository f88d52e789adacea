import { StoreError } from '../../leases/store.ts';
import { check } from '../check/check.ts';
import type { StoreLocation } from '../open.ts';
import type { Snapshot } from '../snapshot.ts';
import type { AnyRow } from '../statement.ts';
import { tableShapes, type TableShape } from '../tables.ts';
import { parseLine, schemaStep, type Header, type Line } from './format.ts';
import { lightly } from '../light-import.ts';

const rows_per_step = 500;

/** An empty database in the middle of one transaction: nobody sees what is put into it before `finish`. */
export interface RestoreTarget extends Snapshot {
  insert(shape: TableShape, rows: readonly AnyRow[]): Promise<void>;
  /** Counts what is kept as counts, once all rows are there. */
  count(): Promise<void>;
  /**
   * Commits; without it everything is undone when the target is disposed of. Whoever opens the table next finds out that
   * it was restored, unless it `moved`: then it goes on as the very same.
   */
  finish(how: Readonly<{ moved: boolean }>): Promise<void>;
}

/**
 * Puts a dump into an empty database, of either kind, all or nothing, and checks it before it is committed. The server that
 * was dumped may have gone on granting, so an epoch begins when a server starts on it, and is in doubt. `moved` is the word
 * of whoever calls that it did not: nothing was changed after the dump, nor will be. How many rows there are.
 */
export async function restore(
  location: StoreLocation,
  lines: AsyncIterable<string>,
  { newEpoch, moved = false }: Readonly<{ newEpoch: () => string; moved?: boolean }>,
): Promise<Readonly<{ rows: number; revision: number }>> {
  const numbered = parsed(lines);
  const first = await numbered.next();
  if (first.done === true || first.value.is !== 'header') throw damaged(1, 'this is no dump: it has no header');
  const { header } = first.value;
  refuseSchema(header);
  await using target = await openTarget(location, newEpoch());
  const rows = await fill(target, numbered);
  await target.count();
  const { flaws, flawCount, revision } = await check(target);
  if (revision !== header.revision)
    throw new StoreError('io', `the dump ends at revision ${revision}, its header says ${header.revision}`);
  if (flawCount > 0) throw new StoreError('io', `what was dumped is not whole, ${flawCount} flaws: ${flaws[0]}`);
  await target.finish({ moved });
  return { rows, revision };
}

async function openTarget({ url, directory }: StoreLocation, epoch: string): Promise<RestoreTarget> {
  if (url === undefined)
    return (await lightly(() => import('../sqlite/restore-target.ts'))).openSqliteTarget(directory);
  return (await lightly(() => import('../postgres/restore-target.ts'))).openPostgresTarget(url, epoch);
}

function refuseSchema({ schema }: Header): void {
  const own = schemaStep();
  if (schema !== own)
    throw new StoreError(
      'io',
      `the dump is of the tables as of ${schema}, this Fishery has ${own}: use the one that made it`,
    );
}

type NumberedLine = Line & Readonly<{ number: number }>;

async function* parsed(lines: AsyncIterable<string>): AsyncGenerator<NumberedLine, void, void> {
  let number = 0;
  for await (const text of lines) {
    number++;
    const line = parseLine(text);
    if (!line.ok) throw damaged(number, line.error);
    yield { ...line.value, number };
  }
}

async function fill(target: RestoreTarget, lines: AsyncIterable<NumberedLine>): Promise<number> {
  const counts = new Map<string, number>();
  let waiting: { shape: TableShape; rows: AnyRow[] } | undefined;
  const flush = async () => {
    if (waiting) await target.insert(waiting.shape, waiting.rows);
    waiting = undefined;
  };
  for await (const line of lines) {
    if (line.is === 'end') {
      await flush();
      return confirmed(counts, line.counts);
    }
    if (line.is === 'header') throw damaged(line.number, 'a second header');
    if (waiting?.shape !== line.shape || waiting.rows.length === rows_per_step) await flush();
    waiting ??= { shape: line.shape, rows: [] };
    waiting.rows.push(line.row);
    counts.set(line.shape.name, (counts.get(line.shape.name) ?? 0) + 1);
  }
  throw new StoreError('io', 'the dump was cut off: its end is missing');
}

/** How many rows came, when there were as many as the end of the dump says. */
function confirmed(counts: ReadonlyMap<string, number>, said: Readonly<Record<string, unknown>>): number {
  for (const { name } of tableShapes) {
    const count = counts.get(name) ?? 0;
    if (said[name] !== count)
      throw new StoreError('io', `the dump has ${count} rows of ${name}, its end says ${String(said[name])}`);
  }
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

const damaged = (line: number, what: string): StoreError => new StoreError('io', `line ${line} of the dump: ${what}`);
