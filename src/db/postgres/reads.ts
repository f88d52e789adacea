import type pg from 'pg';
import type { AnyRow, Read } from '../statement.ts';
import { answersOf } from './pipeline.ts';
import { positional } from './statements.ts';

/** All steps of a read, one after the other. */
export async function readOn<T>(client: pg.ClientBase, read: Read<T>): Promise<T> {
  let step = read.next([]);
  while (step.done !== true) step = read.next((await client.query<AnyRow>(positional(step.value))).rows);
  return step.value;
}

/** A transaction that changes nothing, all of whose statements see one state of the database. */
export const beginSnapshot = 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY';

/** All steps of a read, on one state of the database. */
export async function readInSnapshot<T>(client: pg.ClientBase, read: Read<T>): Promise<T> {
  const begun = client.query(beginSnapshot);
  const reading = readOn(client, read);
  await answersOf<unknown>([begun, reading]);
  await client.query('COMMIT');
  return reading;
}
