import { z } from 'zod';
import { programsFor } from '../../agent/start/start-keepers.ts';
import { agentSettings } from '../../agent/settings/settings.ts';
import { keepers_max } from '../../agent/placeholders/keepers.ts';
import { keeperPath, runFolder } from '../../keeper/place.ts';
import { makeDirectory } from '../../ops/directory.ts';
import { defineCommand, exitCodes } from '../command.ts';

export const command = defineCommand({
  settings: z.strictObject({
    number: z
      .int()
      .min(0)
      .max(keepers_max - 1)
      .default(0)
      .meta({ description: 'Which of the keepers of this network namespace; the agent begins with 0' }),
    keeper: agentSettings.shape.keeper,
    state_dir: agentSettings.shape.state_dir,
  }),
  details: `Needs root, and is meant to be a service of its own, started before the agent and not stopped with it. Without it, the
agent starts its keepers itself; in a service of systemd those are stopped with the agent, unless it has KillMode=process.

This process becomes the keeper, so that what is left of it is as small as that is.`,
  run: async ({ number, ...settings }, { complain }) => {
    if (process.geteuid?.() !== 0) {
      complain('a keeper needs root: it keeps sockets that only root may have');
      return exitCodes.failure;
    }
    const programs = programsFor(settings);
    const [program] = programs.ok ? programs.value : [];
    if (!program) {
      complain(programs.ok ? 'there is no keeper for this machine' : programs.error);
      return exitCodes.failure;
    }
    makeDirectory(runFolder);
    const { command: file, args } = program;
    process.execve?.(file, [file, ...args, keeperPath(number)], {});
    complain('this Node.js cannot start another program in its own place: use version 24');
    return exitCodes.failure;
  },
});
