import { z } from 'zod';
import { defineCommand, exitCodes } from '../command.ts';
import { commands } from '../commands.ts';
import { candidatesFor } from '../completion/candidates.ts';

/** What the scripts of `fishery completion` call. */
export const command = defineCommand({
  settings: z.strictObject({}),
  rest: { name: 'words', description: 'the words after fishery, up to the cursor', required: true },
  run: async (_settings, { rest, env, print }) => {
    const candidates = await candidatesFor(rest, commands, env);
    if (candidates === 'files') print(':files');
    else for (const { word, description } of candidates) print(description === '' ? word : `${word}\t${description}`);
    return exitCodes.ok;
  },
});
