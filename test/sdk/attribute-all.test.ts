import { describe, expect, it } from 'vitest';
import { attributeAll } from '../../src/sdk/index.ts';
import type { BulkAnswer } from '../../src/wire/attribution.ts';

const questions = Array.from({ length: 2_500 }, (_, n) => ({
  ...({ address: '198.51.100.10', protocol: 'tcp', port: n, at: '2026-01-31T14:03:07Z', ref: `r${n}` } as const),
}));

/** A server that knows nothing, and answers each line with its reference. */
const echo = (lists: string[], forgets = 0) => ({
  attributionBulk: async (list: string) => {
    lists.push(list);
    return list
      .split('\n')
      .slice(forgets)
      .map((line, n) => {
        const { ref } = JSON.parse(line) as { ref: string };
        return `${JSON.stringify({ line: n + 1, ref, error: { code: 'x', detail: '' } })}\n`;
      })
      .join('');
  },
});

describe('answers to many questions', () => {
  it('come for each, in order and counted as a whole, a thousand per request', async () => {
    const lists: string[] = [];
    const answers: BulkAnswer[] = [];
    for await (const answer of attributeAll(echo(lists), questions)) answers.push(answer);
    expect(lists.map((list) => list.split('\n').length)).toEqual([1_000, 1_000, 500]);
    expect(answers.map(({ line }) => line)).toEqual(questions.map((_, n) => n + 1));
    expect(answers.map(({ ref }) => ref)).toEqual(questions.map(({ ref }) => ref));
  });

  it('are asked for when they are read, and not before', async () => {
    const lists: string[] = [];
    const answers = attributeAll(echo(lists), questions);
    expect(lists).toHaveLength(0);
    await answers.next();
    expect(lists).toHaveLength(1);
  });

  it('are not whole when one is missing', async () => {
    const answers = attributeAll(echo([], 1), questions.slice(0, 3));
    await expect(answers.next()).rejects.toThrow('2 answers to 3 questions');
  });
});
