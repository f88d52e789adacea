import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { furnished, type Furnished } from '../support/api-world.ts';

/** Bodies that are no request at all: each gets a problem document, and the whole store is compared afterwards. */

let f: Furnished;
let before: string;
const invalid = 'validation_failed';

beforeAll(async () => {
  f = await furnished({ limits: { body_bytes_max: 20_000 } });
});
afterAll(async () => f.world[Symbol.asyncDispose]());
beforeEach(() => {
  before = f.world.snapshot();
});
afterEach(() => {
  expect(f.world.snapshot()).toBe(before);
});

describe('a body', () => {
  const send = (payload: string | Buffer, headers: Record<string, string> = {}) =>
    f.world.call('POST', '/v1/pools', { payload, headers });

  it.each([
    ['is cut short', '{"id":"p2",'],
    ['has something after it', '{} {}'],
    ['is a word', 'hello'],
    ['sets a prototype', '{"id":"p2","__proto__":{"admin":true}}'],
    ['sets a constructor', '{"id":"p2","constructor":{"prototype":{"admin":true}}}'],
    ['is a zero byte', '\u0000'],
  ])('that %s is no JSON of ours', async (_what, payload) => {
    const answer = await send(payload);
    expect(answer.refusal).toEqual([400, 'malformed_request']);
  });

  it.each([
    ['__proto__', '{"id":"p2","__proto__":{"admin":true}}'],
    ['__proto__', '{"id":"p2","labels":{"\\u005f_proto__":1}}'],
    ['constructor', '{"id":"p2","constructor":{"prototype":{}}}'],
  ])('with the key %s is told that this is what is wrong: %s', async (key, payload) => {
    const answer = await f.world.call('POST', '/v1/pools', { payload });
    expect([...answer.refusal, answer.problem.detail]).toEqual([
      400,
      'malformed_request',
      `the body has the forbidden key "${key}"`,
    ]);
  });

  it('that is missing is asked for', async () => {
    for (const answer of [await send(''), await f.world.call('POST', '/v1/pools')]) {
      expect(answer.refusal).toEqual([400, invalid]);
      expect(answer.problem.errors).toEqual([{ path: 'body', message: 'a JSON body is required' }]);
    }
  });

  it.each([
    'text/plain',
    'application/xml',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'nonsense',
  ])('of type %s is not read', async (type) => {
    const answer = await send('{"id":"p2","prefixes":["203.0.113.0/28"]}', { 'content-type': type });
    expect(answer.refusal).toEqual([415, 'unsupported_media_type']);
  });

  it('that is larger than the limit is refused, whether it says so or not', async () => {
    const large = JSON.stringify({ id: 'p2', prefixes: ['203.0.113.0/28'], labels: { a: 'x'.repeat(20_000) } });
    const answer = await send(large);
    expect(answer.refusal).toEqual([413, 'body_too_large']);
    expect(answer.problem.detail).toContain('20000 bytes');
  });

  it('with thousands of mistakes gets a bounded answer', async () => {
    const answer = await send(
      JSON.stringify(Object.fromEntries(Array.from({ length: 1_500 }, (_, i) => [`k${i}`, 1]))),
    );
    expect(answer.status).toBe(400);
    expect(answer.paths).toHaveLength(100);
    expect(answer.problem.detail).toContain('and 1501 more');
  });

  it('that nests deeply is refused and hurts nobody', async () => {
    const answer = await send(`{"labels":${'['.repeat(5_000)}${']'.repeat(5_000)}}`);
    expect(answer.refusal).toEqual([400, invalid]);
  });
});
