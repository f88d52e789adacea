import { resolve } from 'node:path';
import { z } from 'zod';
import { isPostgresUrl, type StoreLocation } from '../db/open.ts';
import { StoreError } from '../leases/store.ts';
import { exitCodes } from './command.ts';

export { makeDataDirectory } from '../db/directory.ts';

/** The settings of every command that opens the store. */
export const storeSettings = {
  data_dir: z.string().default('data').meta({ description: 'Where the database and the operator token are' }),
  database_url: z
    .string()
    .refine(isPostgresUrl, 'expected postgres://user:password@host:port/database')
    .optional()
    .meta({ description: 'PostgreSQL database that several servers may share; otherwise SQLite in data_dir' }),
};

/** Commands that need the database and find it wanting say so in the store's own line, and that is all. */
export async function reportingStoreErrors(
  complain: (line: string) => void,
  work: () => Promise<number>,
): Promise<number> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    complain(error.message);
    return exitCodes.failure;
  }
}

export const storeLocation = (
  settings: Readonly<{ data_dir: string; database_url?: string | undefined }>,
): StoreLocation => ({
  url: settings.database_url,
  directory: resolve(settings.data_dir),
});
