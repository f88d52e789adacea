import { hostname } from 'node:os';
import { z } from 'zod';
import { agentSettings } from '../../agent/settings/settings.ts';
import { checks } from '../../doctor/checks.ts';
import { chooseChecks } from '../../doctor/diagnose.ts';
import { examine, mend } from '../../doctor/doctor.ts';
import { parseSlice } from '../../doctor/observe/observer.ts';
import { exitCodeOf, reportDocument, reportLines } from '../../doctor/report.ts';
import { defineCommand, exitCodes, jsonFlag } from '../command.ts';

export const command = defineCommand({
  settings: agentSettings,
  section: 'agent',
  flags: jsonFlag.extend({
    fix: z.boolean().default(false).meta({ description: 'Mend what is safe to mend, and look again' }),
    only: z.array(z.string()).default([]).meta({ description: 'Run this check alone' }),
    skip: z.array(z.string()).default([]).meta({ description: 'Leave this check out' }),
    slices: z
      .array(z.string())
      .default([])
      .meta({ description: 'Ports that this host holds, or will: 198.51.100.10:8192-10239' }),
  }),
  details: `Looks at the host and network namespace that it runs in, by the settings of the agent. Needs root to see everything, and
says what it could not see. Without --fix nothing is changed, and what --fix would do is listed. What the agent sets by
itself is left to it.

Exit codes: 0 nothing, or only what is worth knowing; 10 warnings; 11 errors; 12 fatal: the host cannot work, or sends
what is not its own.`,
  run: async (settings, { print, complain }) => {
    const chosen = chooseChecks(checks, settings);
    if (!chosen.ok) {
      complain(chosen.error);
      return exitCodes.usage;
    }
    const slices = settings.slices.map(parseSlice);
    for (const slice of slices) if (!slice.ok) complain(`--slices: ${slice.error}`);
    if (slices.some(({ ok }) => !ok)) return exitCodes.usage;
    const options = {
      settings,
      machine: settings.machine ?? hostname().toLowerCase(),
      slices: slices.flatMap((slice) => (slice.ok ? [slice.value] : [])),
    };
    const first = await examine(chosen.value, options);
    const mended = settings.fix ? await mend(first) : null;
    const diagnosis = mended !== null && mended.length > 0 ? await examine(chosen.value, options) : first;
    if (settings.json) print(JSON.stringify(reportDocument(diagnosis, mended), null, 2));
    else for (const line of reportLines(diagnosis, mended)) print(line);
    return exitCodeOf[diagnosis.worst];
  },
});
