import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../leases/store.ts';

/** The steps that the code knows, by name and in order, and how many of them the database has had. */
export type Standing = Readonly<{ steps: readonly string[]; applied: number }>;

type Journal = Readonly<{ entries: readonly Readonly<{ tag: string }>[] }>;

/** The steps in a folder of migrations, as its journal lists them. */
export const stepsIn = (folder: string): readonly string[] =>
  (JSON.parse(readFileSync(join(folder, 'meta', '_journal.json'), 'utf8')) as Journal).entries.map(({ tag }) => tag);

/** Refuses a database that is newer than the code: what it may hold, the code cannot know. */
export function refuseNewer({ steps, applied }: Standing): void {
  if (applied > steps.length)
    throw new StoreError(
      'read_only',
      `the database was made by a newer Fishery (${applied} migrations, this one knows ${steps.length}): upgrade this server`,
    );
}

/** For what only looks: it does not change the tables, and so must find them as the code knows them. */
export function refuseOther(standing: Standing): void {
  refuseNewer(standing);
  const missing = standing.steps.slice(standing.applied);
  if (missing.length > 0)
    throw new StoreError('read_only', `the database lacks ${missing.join(', ')}: run fishery migrate first`);
}
