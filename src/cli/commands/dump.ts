import { open, rm } from 'node:fs/promises';
import { z } from 'zod';
import { dump } from '../../db/dump/dump.ts';
import { parseLine } from '../../db/dump/format.ts';
import { openSnapshot } from '../../db/snapshot.ts';
import { StoreError } from '../../leases/store.ts';
import { defineCommand, exitCodes, jsonFlag } from '../command.ts';
import { reportingStoreErrors, storeLocation, storeSettings } from '../store-settings.ts';

export const command = defineCommand({
  settings: z.strictObject({
    ...storeSettings,
    file: z
      .string()
      .optional()
      .meta({ description: 'New file to write, readable by its owner; standard output without' }),
  }),
  flags: jsonFlag,
  details: `One state of the database, whatever servers do meanwhile. It holds hashes of access tokens, and no secret. Its last line
counts the others: a dump that was cut off is not taken for a whole one.

  fishery dump --data-dir data | fishery restore --database-url postgres://…`,
  run: ({ file, json, ...settings }, { print, complain }) =>
    reportingStoreErrors(complain, async () => {
      if (json && file === undefined) {
        complain('--json tells what was written to --file: without it, the dump itself is what is printed');
        return exitCodes.usage;
      }
      await using snapshot = await openSnapshot(storeLocation(settings));
      if (file === undefined) {
        for await (const line of dump(snapshot)) print(line);
        return exitCodes.ok;
      }
      const written = await writeWhole(file, dump(snapshot));
      if (json) print(JSON.stringify({ file, ...written }, null, 2));
      return exitCodes.ok;
    }),
});

type Written = { rows: number; revision: number };

/** All of it is on disk, or there is no file. */
async function writeWhole(file: string, lines: AsyncIterable<string>): Promise<Written> {
  const handle = await open(file, 'wx', 0o600).catch((error: unknown) => {
    throw new StoreError('io', `${file} cannot be made (${messageOf(error)}): name a new file`, error);
  });
  try {
    const written = { rows: 0, revision: 0 };
    await handle.writeFile(withNewlines(lines, written));
    await handle.sync();
    return written;
  } catch (error) {
    await rm(file, { force: true });
    // What the database failed with says so itself.
    if (error instanceof StoreError) throw error;
    throw new StoreError('io', `${file} cannot be written (${messageOf(error)})`, error);
  } finally {
    await handle.close();
  }
}

async function* withNewlines(lines: AsyncIterable<string>, written: Written): AsyncGenerator<string> {
  let count = 0;
  for await (const line of lines) {
    if (++count === 1) {
      const header = parseLine(line);
      if (header.ok && header.value.is === 'header') written.revision = header.value.header.revision;
    }
    yield `${line}\n`;
  }
  // All but the header and the end.
  written.rows = count - 2;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
