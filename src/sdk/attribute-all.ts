import type { z } from 'zod';
import type { BulkAnswer, BulkQuestion } from '../wire/attribution.ts';
import type { CallOptions, FisheryClient } from './client.ts';
import { FisheryError, localCodes } from './errors.ts';

/** Questions in one request: an answer of some hundred kilobytes, in some hundred milliseconds. */
const questions_per_request = 1_000;

/**
 * Answers any number of questions, a thousand per request, as they come: `for await (const answer of attributeAll(client,
 * questions))`. Each has its answer, in their order; `line` counts them from 1.
 */
export async function* attributeAll(
  client: Pick<FisheryClient, 'attributionBulk'>,
  questions: Iterable<z.input<typeof BulkQuestion>> | AsyncIterable<z.input<typeof BulkQuestion>>,
  options?: CallOptions,
): AsyncGenerator<BulkAnswer, void, void> {
  let list: string[] = [];
  let before = 0;
  const answered = async function* () {
    const text = await client.attributionBulk(list.join('\n'), 'application/x-ndjson', options);
    const answers = text.split('\n').filter((line) => line !== '');
    if (answers.length !== list.length)
      throw new FisheryError(`${answers.length} answers to ${list.length} questions: the list was cut off`, {
        ...{ code: localCodes.unreadableAnswer, status: 200, retryable: true },
      });
    for (const text of answers) {
      // The contract is believed here as in every other call.
      const answer = JSON.parse(text) as BulkAnswer;
      yield { ...answer, line: before + answer.line };
    }
    before += list.length;
    list = [];
  };
  for await (const question of questions) {
    list.push(JSON.stringify(question));
    if (list.length === questions_per_request) yield* answered();
  }
  if (list.length > 0) yield* answered();
}
