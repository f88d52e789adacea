import type { Change, Desired, FlowQuery } from '../wire/agent.ts';
import type { ForwardedRequest } from '../wire/broker.ts';
import type { FisheryClient } from './client.ts';
import { followLog, type FollowOptions } from './follow-log.ts';

export type Followed =
  | Readonly<{ type: 'snapshot'; desired: Desired }>
  | Readonly<{ type: 'change'; change: Change }>
  | Readonly<{ type: 'bookmark'; revision: number }>
  | Readonly<{ type: 'query'; query: FlowQuery }>
  /** What the server was asked for in slices that the machine grants in itself. */
  | Readonly<{ type: 'request'; request: ForwardedRequest }>;

/**
 * What a machine must make true, and every change of it, in order, each once: a snapshot, then the changes after it,
 * over as many connections as it takes. A lost connection is resumed from the last revision that was seen; when the
 * server no longer has the changes since then, a new snapshot comes instead.
 *
 * Runs until `signal` aborts (then it returns) or until the server refuses for good (no such machine, token revoked):
 * then it throws that FisheryError.
 */
export async function* follow(
  client: FisheryClient,
  machine: string,
  options: FollowOptions = {},
): AsyncGenerator<Followed, void, undefined> {
  const log = {
    name: machine,
    takeSnapshot: (signal: AbortSignal | undefined) => client.agent.desired(machine, signal ? { signal } : {}),
    openStream: (from: number, signal: AbortSignal) => client.agent.watch(machine, from, signal),
    onReached: (revision: number) => client.reached(revision),
  };
  for await (const item of followLog<Desired, Change, FlowQuery, ForwardedRequest>(log, options))
    yield item.type === 'snapshot' ? { type: 'snapshot', desired: item.snapshot } : item;
}
