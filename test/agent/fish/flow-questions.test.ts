import { describe, expect, it } from 'vitest';
import { askOnceCovered } from '../../../src/agent/fish/flow-questions.ts';
import type { FlowAnswer } from '../../../src/fish/log/flow-log.ts';

const answerAt = (coversThrough: number, verdict: FlowAnswer['verdict'] = 'not_covered'): FlowAnswer => ({
  verdict,
  matches: [],
  truncated: false,
  coversSince: 0,
  coversThrough,
  marginUs: 10_000,
});

/** A log that answers these one after another, and what was waited between. */
async function ask(at: number, answers: FlowAnswer[]) {
  const waited: number[] = [];
  const answer = await askOnceCovered(
    () => Promise.resolve(answers.shift() ?? answerAt(NaN)),
    at,
    (ms) => Promise.resolve(waited.push(ms)),
  );
  return { answer, waited, left: answers.length };
}

describe('a question to the flow log', () => {
  it('about this very moment is asked again as soon as the log can be sure', async () => {
    const sure = answerAt(1_011_000, 'not_mine');
    expect(await ask(1_000_000, [answerAt(1_002_500), sure])).toEqual({ answer: sure, waited: [9], left: 0 });
  });

  it('is asked once where the answer is known, is about the past, or about the future', async () => {
    for (const [at, first] of [
      [1_000_000, answerAt(1_002_500, 'match')],
      [1_000_000, answerAt(1_010_000)],
      [1_000_000, answerAt(700_000)],
    ] as const)
      expect(await ask(at, [first, answerAt(9_000_000)])).toEqual({ answer: first, waited: [], left: 1 });
  });
});
