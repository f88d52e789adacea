import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SseParser, type ServerSentEvent } from '../../src/sdk/sse.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const parse = (...chunks: readonly Uint8Array[]): ServerSentEvent[] => {
  const parser = new SseParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
};

/** Cuts `whole` at the given places (taken modulo its length, in any order). */
function cutAt(whole: Uint8Array, places: readonly number[]): Uint8Array[] {
  const cuts = [...new Set(places.map((place) => place % (whole.length + 1)))].sort((a, b) => a - b);
  return [...cuts, whole.length].map((end, i) => whole.subarray(i === 0 ? 0 : cuts[i - 1], end));
}

const lineEnd = fc.constantFrom('\n', '\r', '\r\n');
/** Text without line ends; the first character is no space, which the format would eat. */
const value = fc
  .string({ unit: 'binary', maxLength: 12 })
  .map((text) => text.replace(/[\r\n\0\ufeff]/g, '').trimStart());
const field = fc.oneof(
  fc.tuple(fc.constant('event' as const), value),
  fc.tuple(fc.constant('data' as const), value),
  fc.tuple(fc.constant('id' as const), value),
  fc.tuple(fc.constant('comment' as const), value),
  fc.tuple(fc.constant('unknown-field' as const), value),
);
const block = fc.array(field, { maxLength: 6 });
const script = fc.array(fc.tuple(block, lineEnd), { maxLength: 6 });

type Script = readonly (readonly [readonly (readonly [string, string])[], string])[];

const written = (blocks: Script): string =>
  blocks
    .map(
      ([fields, end]) =>
        [...fields.map(([name, text]) => (name === 'comment' ? `:${text}` : `${name}: ${text}`)), ''].join(end) + end,
    )
    .join('');

/** What a reader of the specification would dispatch, without any parsing. */
function expected(blocks: Script): ServerSentEvent[] {
  let id = '';
  return blocks.flatMap(([fields]) => {
    const of = (name: string) => fields.filter(([key]) => key === name).map(([, text]) => text);
    id = of('id').at(-1) ?? id;
    const data = of('data');
    return data.length > 0 ? [{ event: of('event').at(-1) || 'message', data: data.join('\n'), id }] : [];
  });
}

describe('the parser of server-sent events', () => {
  it('gives the events that were written, whatever the chunks are', () => {
    fc.assert(
      fc.property(script, fc.array(fc.nat(400), { maxLength: 30 }), (blocks, places) => {
        const whole = bytes(written(blocks));
        expect(parse(...cutAt(whole, places))).toEqual(expected(blocks));
      }),
      { numRuns: 500 },
    );
  });

  it('gives the same events one byte at a time', () => {
    fc.assert(
      fc.property(script, (blocks) => {
        const whole = bytes(written(blocks));
        expect(parse(...[...whole].map((byte) => Uint8Array.of(byte)))).toEqual(parse(whole));
      }),
    );
  });

  it('does not end a line twice when CR and LF fall into two chunks', () => {
    expect(parse(bytes('data: a\r'), bytes('\ndata: b\r'), bytes('\n\r'), bytes('\n'))).toEqual([
      { event: 'message', data: 'a\nb', id: '' },
    ]);
  });

  it('puts a character together whose bytes fall into two chunks', () => {
    const whole = bytes('data: ü€😀\n\n');
    for (let cut = 0; cut <= whole.length; cut++)
      expect(parse(whole.subarray(0, cut), whole.subarray(cut))).toEqual([{ event: 'message', data: 'ü€😀', id: '' }]);
  });

  it('does not dispatch what the end of the stream cuts off', () => {
    expect(parse(bytes('data: whole\n\ndata: half\n'))).toEqual([{ event: 'message', data: 'whole', id: '' }]);
  });

  it('keeps the last id for events without one, and forgets the event name', () => {
    expect(parse(bytes('id: 7\nevent: change\ndata: a\n\ndata: b\n\n'))).toEqual([
      { event: 'change', data: 'a', id: '7' },
      { event: 'message', data: 'b', id: '7' },
    ]);
  });

  it('tells comments and the wish for a later return', () => {
    const comments: string[] = [];
    const parser = new SseParser((text) => comments.push(text));
    expect(parser.push(bytes(': heartbeat\nretry: 1500\nretry: soon\n\n'))).toEqual([]);
    expect(comments).toEqual(['heartbeat']);
    expect(parser.retryMs).toBe(1500);
  });

  it('refuses an event that does not end within its bound', () => {
    const parser = new SseParser();
    const mebi = bytes('x'.repeat(1024 * 1024));
    parser.push(bytes('data: '));
    expect(() => {
      for (let i = 0; i < 17; i++) parser.push(mebi);
    }).toThrow(RangeError);
  });
});
