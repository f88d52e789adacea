import { z } from 'zod';
import { Terminate } from '../../agent/settings/settings-terminate.ts';
import { terminatorPath } from '../../agent/start/start-terminator.ts';
import { runFolder } from '../../keeper/place.ts';
import { makeDirectory } from '../../ops/directory.ts';
import { packageVersion } from '../../ops/version.ts';
import { runTerminator } from '../../terminate/process.ts';
import { defineCommand, exitCodes } from '../command.ts';

export const command = defineCommand({
  settings: z.strictObject({ port: Terminate.shape.port }),
  details: `Needs root to begin with, and is meant to be a service of its own, started before the agent and not stopped with it. It waits
for the agent, takes on the user id of its holder as the server knows it, and has no privilege from then on. Without it, the agent
starts one itself, which takes CAP_SETUID and CAP_SETGID.

Connections that it has die with it.`,
  run: async ({ port }, { complain }) => {
    if (process.geteuid?.() !== 0) {
      complain('the terminator needs root to begin with: it listens for connections to any address');
      return exitCodes.failure;
    }
    makeDirectory(runFolder);
    try {
      const { finished, stop } = await runTerminator({ path: terminatorPath(), port, version: packageVersion() });
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, stop);
      await finished;
      return exitCodes.ok;
    } catch (error) {
      complain(error instanceof Error ? error.message : String(error));
      return exitCodes.failure;
    }
  },
});
