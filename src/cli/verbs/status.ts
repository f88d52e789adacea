import { isFisheryError, type CallOptions, type FisheryClient } from '../../sdk/index.ts';
import type { Machine } from '../../wire/machines.ts';
import { exitCodes } from '../command.ts';
import { show, verb } from './verb.ts';

/** More machines than this are counted by metrics, not by one who asks how things are. */
const machines_counted_max = 10_000;

export const status = verb({
  name: 'status',
  summary: 'See whether the server serves, and how its machines are',
  operations: ['getAbout', 'getHealth', 'getReadiness'],
  details: 'Exit code 6 when the server is there and does not serve.',
  run: async (call) => {
    const { client, options } = call;
    const about = await client.server.about(options);
    await client.server.health(options);
    const readiness = await client.server.readiness(options).catch((thrown: unknown) => {
      if (isFisheryError(thrown) && thrown.problem)
        return { status: 'not_ready' as const, reason: thrown.problem.detail };
      throw thrown;
    });
    const { machines, isAll } = await machinesOf(client, options);
    const states: Partial<Record<Machine['state'], number>> = {};
    for (const { state } of machines) states[state] = (states[state] ?? 0) + 1;
    show(call, {
      version: about.version,
      protocol_version: about.protocol_version,
      ...readiness,
      machines: isAll ? machines.length : `more than ${machines_counted_max}`,
      machine_states: states,
      // Those whose kernel should enforce what the table says, and of whom nothing was ever heard.
      agents_never_seen: machines.filter(({ enforcement, agent }) => enforcement === 'agent' && agent === null).length,
    });
    return readiness.status === 'not_ready' ? exitCodes.unreachable : exitCodes.ok;
  },
});

async function machinesOf(client: FisheryClient, options: CallOptions) {
  const machines: Machine[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.machines.list({ limit: 1_000, ...(cursor === undefined ? {} : { cursor }) }, options);
    machines.push(...page.items);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined && machines.length < machines_counted_max);
  return { machines, isAll: cursor === undefined };
}
