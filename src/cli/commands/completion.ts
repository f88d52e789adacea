import { z } from 'zod';
import { defineCommand, exitCodes } from '../command.ts';
import { completionScripts, shells } from '../completion/scripts.ts';

export const command = defineCommand({
  settings: z.strictObject({}),
  positionals: [{ name: 'shell', description: 'Whose script', choices: shells, required: true }],
  details: `Completes commands, verbs, flags and their choices, and asks the server for names and identifiers.

  source <(fishery completion bash)    # in ~/.bashrc`,
  run: async (_settings, { positionals, print }) => {
    const shell = shells.find((name) => name === positionals['shell']) ?? 'bash';
    print(completionScripts[shell]);
    return exitCodes.ok;
  },
});
