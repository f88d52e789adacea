import { resolve } from 'node:path';
import { z } from 'zod';
import { isPostgresUrl, type StoreLocation } from '../db/open.ts';

/** The settings of every command that opens the store. */
export const storeSettings = {
  data_dir: z.string().default('data').meta({ description: 'Where the database and the operator token are' }),
  database_url: z
    .string()
    .refine(isPostgresUrl, 'expected postgres://user:password@host:port/database')
    .optional()
    .meta({ description: 'PostgreSQL database that several servers may share; otherwise SQLite in data_dir' }),
};

export const storeLocation = (
  settings: Readonly<{ data_dir: string; database_url?: string | undefined }>,
): StoreLocation => ({
  url: settings.database_url,
  directory: resolve(settings.data_dir),
});
