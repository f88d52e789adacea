import type { FlowAnswer as FlowLogAnswer } from '../../fish/log/flow-log.ts';
import type { FlowRecord } from '../../fish/log/flow-record.ts';
import type { FlowQuery as FlowLogQuery } from '../../fish/flows/flow-tuple.ts';
import { familyOf, parseAddress, type Address } from '../../net/address.ts';
import type { FlowAnswer, FlowQuery } from '../../wire/agent.ts';
import { formatInstant, parseInstant } from '../../wire/instants.ts';

/** As many flows as one answer may carry. */
export const flows_max = 1_000;

/** What the server asks, as a flow log understands it. */
export function flowQueryOf(query: FlowQuery): FlowLogQuery {
  return {
    protocol: query.protocol,
    address: addressOf(query.address),
    port: query.port,
    remote: query.remote_address === null ? null : addressOf(query.remote_address),
    remotePort: query.remote_port,
    at: parseInstant(query.at),
  };
}

/** A UDP mapping is toward all remotes: its flow is told with the remote that was asked about, or with none. */
const anyRemote = { 4: '0.0.0.0' as Address, 6: '::' as Address } as const;

export function flowAnswerOf(query: FlowQuery, answer: FlowLogAnswer, holder: string): FlowAnswer {
  const asked =
    query.remote_address === null ? anyRemote[familyOf(addressOf(query.address))] : addressOf(query.remote_address);
  const flow = ({ lease, client, remote, remotePort, openedAt, closedAt }: FlowRecord) => ({
    holder,
    lease,
    client,
    remote_address: remote ?? asked,
    remote_port: remotePort ?? query.remote_port ?? 0,
    opened_at: formatInstant(openedAt),
    closed_at: closedAt === null ? null : formatInstant(closedAt),
  });
  // A log that is sure of nothing.
  const isBlank = answer.coversSince === Infinity;
  return {
    id: query.id,
    covers_since: isBlank ? null : formatInstant(answer.coversSince),
    covers_through: isBlank ? null : formatInstant(answer.coversThrough),
    clock_margin_s: answer.marginUs / 1_000_000,
    flows: answer.matches.map(flow),
  };
}

function addressOf(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

/** What several logs know together: all that each has found, and that there is nothing else as far as all of them reach. */
export function joinAnswers(id: string, answers: readonly FlowAnswer[]): FlowAnswer {
  const since = answers.map((answer) => answer.covers_since);
  const through = answers.map((answer) => answer.covers_through);
  return {
    id,
    covers_since: boundOf(since, (a, b) => a > b),
    covers_through: boundOf(through, (a, b) => a < b),
    clock_margin_s: Math.max(0, ...answers.map((answer) => answer.clock_margin_s)),
    flows: answers.flatMap((answer) => answer.flows).slice(0, flows_max),
  };
}

/** The one that all of them satisfy; null where one knows nothing. */
function boundOf(instants: readonly (string | null)[], isStricter: (a: number, b: number) => boolean): string | null {
  let bound: string | null = null;
  for (const instant of instants) {
    if (instant === null) return null;
    if (bound === null || isStricter(parseInstant(instant), parseInstant(bound))) bound = instant;
  }
  return bound;
}
