import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { restore } from '../../db/dump/restore.ts';
import { defineCommand, exitCodes } from '../command.ts';
import { reportingStoreErrors, storeLocation, storeSettings } from '../store-settings.ts';

export const command = defineCommand({
  settings: z.strictObject({
    ...storeSettings,
    file: z.string().optional().meta({ description: 'Dump to read; standard input without' }),
  }),
  details: `Into an empty database only, all or nothing, and checked before it is kept. The table becomes another one: it has a new
epoch, and leases that are granted from here on cannot be taken for those of the table that was dumped. Make sure that no
server grants from that one any more. Access tokens are restored, their secrets are with whoever has them.`,
  run: ({ file, ...settings }, { print, complain }) =>
    reportingStoreErrors(complain, async () => {
      try {
        if (file !== undefined) await access(file, constants.R_OK);
      } catch (error) {
        complain(`${file} cannot be read (${error instanceof Error ? error.message : String(error)})`);
        return exitCodes.failure;
      }
      const input = file === undefined ? process.stdin : createReadStream(file);
      const lines = createInterface({ input, crlfDelay: Infinity });
      const { rows, revision } = await restore(storeLocation(settings), lines, randomUUID);
      print(`restored    ${rows} rows`);
      print(`revision    ${revision}`);
      return exitCodes.ok;
    }),
});
