import { z } from 'zod';
import { FisheryError } from '../../sdk/index.ts';
import { EventsQuery, LogEntry } from '../../wire/agent.ts';
import { Revision } from '../../wire/primitives.ts';
import { exitCodes } from '../command.ts';
import { inOneLine } from '../output/one-line.ts';
import { interruption, pauseUnless } from '../interruption.ts';
import { positionFile } from '../position-file.ts';
import { verb } from './verb.ts';

/** How long to be silent after a call that failed, at most. */
const trouble_wait_ms = 5_000;
const page_entries = 1_000;

const kinds = LogEntry.options.map(({ shape }) => shape.kind.value);

/** The whole log, or what concerns one machine, as it grows: resumed after whatever the server does meanwhile. */
export const watch = verb({
  name: 'watch',
  summary: 'Follow the log of changes',
  operations: ['listEvents'],
  flags: z.strictObject({
    after: Revision.optional().meta({ description: 'Begin after this revision; default: with what comes from now on' }),
    machine: EventsQuery.shape.machine.meta({ description: 'Only what concerns this machine' }),
    kind: z
      .array(z.enum(kinds))
      .default([])
      .meta({ description: 'Only changes of this kind: lease, slice, session …' }),
    position_file: z.string().optional().meta({
      description: 'Keeps the revision that was reached; begins after it when it is there',
    }),
    until_now: z.boolean().default(false).meta({ description: 'End when everything so far is printed' }),
    every_s: z.number().min(0.1).max(60).default(1).meta({ description: 'How often to look for more, in seconds' }),
  }),
  details: `With --json every change is a line of JSON. What was printed is printed no second time, over restarts of the server and,
with --position-file, of this command; the position is written after the lines.

  fishery watch --after 0 --until-now            # the log as far as it is kept
  fishery watch --json --position-file audit.at  # every change once, for a program that reads lines`,
  run: async ({ client, flags, output, context: { print, complain, terminal } }) => {
    const position = flags.position_file === undefined ? undefined : positionFile(flags.position_file);
    const kept = position?.read();
    if (kept !== undefined && !kept.ok) {
      complain(kept.error);
      return exitCodes.usage;
    }
    using interrupted = interruption(terminal.signals);
    const { signal } = interrupted;
    let after = kept?.value ?? flags.after ?? (flags.until_now ? 0 : (await client.server.readiness()).revision);
    let failures = 0;
    // Asked each time anew: a signal comes in the middle of a wait.
    const isOver = () => signal.aborted;
    while (!isOver()) {
      try {
        const query = {
          after,
          limit: page_entries,
          ...(flags.machine === undefined ? {} : { machine: flags.machine }),
        };
        const { events, next_after, revision } = await client.events(query, { signal });
        if (failures > 0) complain(`the server answers again; going on after revision ${after}`);
        failures = 0;
        for (const entry of events)
          if (flags.kind.length === 0 || flags.kind.includes(entry.kind))
            print(output.json ? JSON.stringify(entry) : lineOf(entry));
        after = next_after;
        position?.write(after);
        if (after < revision) continue;
        if (flags.until_now) return exitCodes.ok;
        await pauseUnless(signal, flags.every_s * 1_000);
      } catch (thrown) {
        if (isOver()) break;
        if (!(thrown instanceof FisheryError) || !thrown.retryable) throw thrown;
        if (failures++ === 0) complain(`${thrown.message}; trying again until it answers`);
        await pauseUnless(signal, Math.min(trouble_wait_ms, (thrown.retryAfterMs ?? 0) + flags.every_s * 1_000));
      }
    }
    complain(`ended at revision ${after}; go on with --after ${after}`);
    return exitCodes.ok;
  },
});

function lineOf(entry: LogEntry): string {
  const { kind, revision, at, ...rest } = entry;
  const [thing, ...others]: readonly unknown[] = Object.values(rest as Readonly<Record<string, unknown>>);
  // Most entries carry one thing with all that is known of it; some are a few members of their own.
  const what = typeof thing === 'object' && thing !== null && others.length === 0 ? thing : rest;
  return `${String(revision).padStart(8)}  ${at}  ${kind.padEnd(8)} ${inOneLine(what)}`;
}
