import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';
import { z } from 'zod';
import { restore } from '../../db/dump/restore.ts';
import { defineCommand, exitCodes, jsonFlag } from '../command.ts';
import { reportingStoreErrors, storeLocation, storeSettings } from '../store-settings.ts';

export const command = defineCommand({
  settings: z.strictObject({
    ...storeSettings,
    moved: z.boolean().default(false).meta({
      description: 'Nothing was changed after the dump: the table goes on here as the very same',
    }),
    file: z.string().optional().meta({ description: 'Dump to read; standard input without' }),
  }),
  flags: jsonFlag,
  details: `Into an empty database only, all or nothing, and checked before it is kept. What was answered after the dump is not in it,
so the server that is started on it is read-only until every machine has told what it has, or an operator confirms
(POST /v1/server/confirm-epoch). With --moved it goes on at once: for a dump that was made after the last server was
stopped. Access tokens are restored, their secrets are with whoever has them.`,
  run: ({ file, moved, json, ...settings }, { print, complain }) =>
    reportingStoreErrors(complain, async () => {
      try {
        if (file !== undefined) await access(file, constants.R_OK);
      } catch (error) {
        complain(`${file} cannot be read (${error instanceof Error ? error.message : String(error)})`);
        return exitCodes.failure;
      }
      const input = file === undefined ? process.stdin : createReadStream(file);
      const { rows, revision } = await restore(storeLocation(settings), linesOf(input), {
        newEpoch: randomUUID,
        moved,
      });
      if (json) {
        print(JSON.stringify({ rows, revision }, null, 2));
        return exitCodes.ok;
      }
      print(`restored    ${rows} rows`);
      print(`revision    ${revision}`);
      return exitCodes.ok;
    }),
});

/** Lines end with a newline and nothing else: `node:readline` takes U+2028 for an end as well, which texts in a dump may have. */
async function* linesOf(input: AsyncIterable<unknown>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  for await (const chunk of input) {
    const lines = (rest + (typeof chunk === 'string' ? chunk : decoder.write(chunk as Buffer))).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) yield line.replace(/\r$/, '');
  }
  rest += decoder.end();
  if (rest !== '') yield rest;
}
