import { z } from 'zod';
import { followEvents } from '../../sdk/index.ts';
import { EventsQuery, logKinds, type LogEntry } from '../../wire/agent.ts';
import { Revision } from '../../wire/primitives.ts';
import { exitCodes } from '../command.ts';
import { interruption } from '../interruption.ts';
import { inOneLine } from '../output/one-line.ts';
import { positionFile, positionKeeper } from '../position-file.ts';
import { verb } from './verb.ts';

/** The whole log, or what concerns one machine, as it grows: resumed after whatever the server does meanwhile. */
export const watch = verb({
  name: 'watch',
  summary: 'Follow the log of changes',
  operations: ['watchEvents', 'listEvents'],
  flags: z.strictObject({
    after: Revision.optional().meta({ description: 'Begin after this revision; default: with what comes from now on' }),
    machine: EventsQuery.shape.machine.meta({ description: 'Only what concerns this machine' }),
    kind: z
      .array(z.enum(logKinds))
      .default([])
      .meta({ description: 'Only changes of this kind: lease, slice, session …' }),
    position_file: z.string().optional().meta({
      description: 'Keeps the revision that was reached; begins after it when it is there',
    }),
    until_now: z.boolean().default(false).meta({ description: 'End when everything so far is printed' }),
  }),
  details: `With --json every change is a line of JSON. What was printed is printed no second time, over restarts of the server and,
with --position-file, of this command; the position is written after the lines. When the log no longer has what comes next,
the command ends and says so.

  fishery watch --after 0 --until-now            # the log as far as it is kept
  fishery watch --kind lease --machine edge-1    # leases on edge-1, as they come and go
  fishery watch --json --position-file audit.at  # every change once, for a program that reads lines`,
  run: async ({ client, flags, output, context: { print, complain, terminal } }) => {
    const position = flags.position_file === undefined ? undefined : positionFile(flags.position_file);
    const kept = position?.read();
    if (kept !== undefined && !kept.ok) {
      complain(kept.error);
      return exitCodes.usage;
    }
    // Before signals are caught: until here Ctrl-C just ends it.
    const { revision: now } = await client.server.readiness();
    using interrupted = interruption(terminal.signals);
    const { signal } = interrupted;
    let reached = kept?.value ?? flags.after ?? (flags.until_now ? 0 : now);
    const keeper = position && positionKeeper(position);
    const server = { isAway: false };
    const onTrouble = ({ message }: Error) => {
      if (!server.isAway) complain(`${message}; trying again until it answers`);
      server.isAway = true;
    };
    const filter = {
      ...(flags.machine === undefined ? {} : { machine: flags.machine }),
      ...(flags.kind.length === 0 ? {} : { kind: flags.kind.join() }),
    };
    try {
      if (flags.until_now && reached === now) return exitCodes.ok;
      for await (const item of followEvents(client, filter, { from: reached, signal, onTrouble })) {
        if (server.isAway) complain(`the server answers again; going on after revision ${reached}`);
        server.isAway = false;
        if (item.type === 'change') print(output.json ? JSON.stringify(item.change) : lineOf(item.change));
        reached = item.type === 'change' ? item.change.revision : item.revision;
        keeper?.reached(reached);
        if (flags.until_now && reached >= now) return exitCodes.ok;
      }
    } finally {
      keeper?.end();
    }
    complain(`ended at revision ${reached}; go on with --after ${reached}`);
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
