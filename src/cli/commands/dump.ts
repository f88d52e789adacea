import { open, rm } from 'node:fs/promises';
import { z } from 'zod';
import { dump } from '../../db/dump/dump.ts';
import { openSnapshot } from '../../db/snapshot.ts';
import { StoreError } from '../../leases/store.ts';
import { defineCommand, exitCodes } from '../command.ts';
import { reportingStoreErrors, storeLocation, storeSettings } from '../store-settings.ts';

export const command = defineCommand({
  settings: z.strictObject({
    ...storeSettings,
    file: z
      .string()
      .optional()
      .meta({ description: 'New file to write, readable by its owner; standard output without' }),
  }),
  details: `One state of the database, whatever servers do meanwhile. It holds hashes of access tokens, and no secret. Its last line
counts the others: a dump that was cut off is not taken for a whole one.

  fishery dump --data-dir data | fishery restore --database-url postgres://…`,
  run: ({ file, ...settings }, { print, complain }) =>
    reportingStoreErrors(complain, async () => {
      await using snapshot = await openSnapshot(storeLocation(settings));
      if (file === undefined) for await (const line of dump(snapshot)) print(line);
      else await writeWhole(file, dump(snapshot));
      return exitCodes.ok;
    }),
});

/** All of it is on disk, or there is no file. */
async function writeWhole(file: string, lines: AsyncIterable<string>): Promise<void> {
  const handle = await open(file, 'wx', 0o600).catch((error: unknown) => {
    throw new StoreError('io', `${file} cannot be made (${messageOf(error)}): name a new file`, error);
  });
  try {
    await handle.writeFile(withNewlines(lines));
    await handle.sync();
  } catch (error) {
    await rm(file, { force: true });
    // What the database failed with says so itself.
    if (error instanceof StoreError) throw error;
    throw new StoreError('io', `${file} cannot be written (${messageOf(error)})`, error);
  } finally {
    await handle.close();
  }
}

async function* withNewlines(lines: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const line of lines) yield `${line}\n`;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
