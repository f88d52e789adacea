import type { PastUse } from '../leases/store.ts';
import type { Attribution, AttributionQuery } from '../wire/attribution.ts';
import { formatInstant } from '../wire/instants.ts';
import { asksFlowLog, attribute, type FlowLog, type Question } from './attribution.ts';
import type { Context } from './context.ts';

/** A question about an instant further ahead than clocks differ is a mistake. */
export const ahead_s_max = 60;

/** What it takes to answer a question. */
export type Asking = Pick<Context, 'reader' | 'clock' | 'logger'> & Readonly<{ flows: Pick<Context['flows'], 'ask'> }>;

type Said = Omit<AttributionQuery, 'at'>;

/** A question as the schemas have it: a remote is given whole, or not at all. */
export function questionOf({ address, protocol, port, remote_address, remote_port }: Said, at: number): Question {
  const hasRemote = remote_address !== undefined && remote_port !== undefined;
  const remote = hasRemote ? { address: remote_address, port: remote_port } : null;
  return { address, protocol, port, at, remote };
}

/** Answers one question, asking the machine's flow log where that could tell more than the table. */
export async function answer(parts: Asking, question: Question): Promise<Attribution> {
  const known = await parts.reader.whoHad(question);
  const flowLog = await askFlowLog(parts, question, known);
  return attribute(question, { ...known, flowLog, now: parts.clock.nowUs() });
}

async function askFlowLog({ flows }: Asking, question: Question, known: PastUse): Promise<FlowLog> {
  if (known.machine === null || !asksFlowLog(question, known)) return { status: 'not_asked' };
  const said = await flows.ask(known.machine.id, {
    protocol: question.protocol,
    address: question.address,
    port: question.port,
    remote_address: question.remote?.address ?? null,
    remote_port: question.remote?.port ?? null,
    at: formatInstant(question.at),
  });
  return said === undefined ? { status: 'unreachable' } : { status: 'answered', answer: said };
}
