import { z } from 'zod';
import { packageVersion } from '../../ops/version.ts';
import { defineCommand, exitCodes } from '../command.ts';

export const command = defineCommand({
  settings: z.strictObject({}),
  run: async (_settings, { print }) => {
    print(`fishery ${packageVersion()} (Node.js ${process.versions.node}, ${process.platform} ${process.arch})`);
    return exitCodes.ok;
  },
});
