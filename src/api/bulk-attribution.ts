import { setImmediate as turn } from 'node:timers/promises';
import { BulkQuestion, type BulkAnswer } from '../wire/attribution.ts';
import { parseInstant } from '../wire/instants.ts';
import { answer, ahead_s_max, questionOf, type Asking } from './attribute.ts';
import type { BulkFormat, BulkLine } from './bulk-lines.ts';
import type { Context } from './context.ts';
import type { ErrorCode } from './errors.ts';
import { inOrder } from './in-order.ts';
import { ApiProblem } from './problems.ts';
import { microseconds } from './units.ts';

/** Lines under way at once: enough to keep the database busy, few enough to leave room for others. */
const lines_at_once = 16;
/** Answers that are written together. */
const lines_per_piece = 64;
/** A machine whose agent has not answered so often in a row is not asked again for this list. */
const silences_max = 3;

/**
 * The answers to a list of questions as pieces of text, made while they are read: what is in memory is the list and a few
 * answers. A line that cannot be answered says why in its place.
 */
export async function* answerAll(
  context: Context,
  format: BulkFormat,
  lines: Iterable<BulkLine>,
): AsyncGenerator<string> {
  const asking: Asking = { ...context, flows: new PatientFlows(context.flows) };
  let piece = format.head;
  let count = 0;
  for await (const said of inOrder(lines, lines_at_once, (line) => answerLine(asking, context.stopping, line))) {
    piece += format.write(said);
    if (++count % lines_per_piece > 0) continue;
    yield piece;
    piece = '';
    // Where nothing was waited for, others would otherwise not get a turn.
    await turn();
  }
  if (piece !== '') yield piece;
}

async function answerLine(asking: Asking, stopping: AbortSignal, given: BulkLine): Promise<BulkAnswer> {
  const { line } = given;
  const fields = 'fields' in given ? given.fields : {};
  const ref = typeof fields['ref'] === 'string' ? fields['ref'].slice(0, 200) : null;
  const failed = (code: ErrorCode, detail: string): BulkAnswer => ({ line, ref, error: { code, detail } });
  if ('unreadable' in given) return failed('malformed_request', given.unreadable);
  if (stopping.aborted) return failed('shutting_down', 'the server is shutting down');
  const parsed = BulkQuestion.safeParse(fields);
  const [issue] = parsed.error?.issues ?? [];
  if (!parsed.success)
    return failed('validation_failed', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`.replace(/^: /, ''));
  const at = parseInstant(parsed.data.at);
  if (at > asking.clock.nowUs() + microseconds(ahead_s_max))
    return failed('instant_in_future', `${parsed.data.at} is still to come`);
  try {
    return { line, ref, ...(await answer(asking, questionOf(parsed.data, at))) };
  } catch (error) {
    // The answer has begun: what fails now can only be said in place, and in the log.
    if (error instanceof ApiProblem) return failed(error.code, error.message);
    asking.logger.error({ err: error }, 'a line of a bulk attribution failed');
    return failed('internal_error', 'see the log of the server');
  }
}

/** Asks no agent that keeps silent a hundred thousand times, two seconds each. */
class PatientFlows implements Pick<Context['flows'], 'ask'> {
  readonly #flows: Context['flows'];
  readonly #silences = new Map<string, number>();

  constructor(flows: Context['flows']) {
    this.#flows = flows;
  }

  async ask(...[machine, question]: Parameters<Context['flows']['ask']>): ReturnType<Context['flows']['ask']> {
    if ((this.#silences.get(machine) ?? 0) >= silences_max) return undefined;
    const said = await this.#flows.ask(machine, question);
    this.#silences.set(machine, said === undefined ? (this.#silences.get(machine) ?? 0) + 1 : 0);
    return said;
  }
}
