import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { furnished, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeAll(async () => {
  f = await furnished();
});
afterAll(async () => f.world[Symbol.asyncDispose]());

describe('a method that a path has not', () => {
  it.each([
    ['PUT', '/v1/pools/fra1', 'GET, HEAD, PATCH, DELETE'],
    ['PUT', '/v1/leases/lease-1?wait=1', 'GET, HEAD'],
    ['POST', '/v1/events', 'GET, HEAD'],
    ['PUT', '/v1/pools', 'POST, GET, HEAD'],
    ['DELETE', '/v1/machines/edge-1/watch', 'GET'],
    ['GET', '/v1/leases/lease-1/release', 'POST'],
  ] as const)('%s %s is told which there are', async (method, url, allow) => {
    const answer = await f.world.call(method, url, { token: null });
    expect([...answer.refusal, answer.headers['allow']]).toEqual([405, 'method_not_allowed', allow]);
  });

  it.each(['/v1', '/v1/pools/fra1/slices', '/v2/pools'])('is not the matter with %s, which is no path', async (url) => {
    const answer = await f.world.call('POST', url);
    expect([...answer.refusal, answer.headers['allow']]).toEqual([404, 'not_found', undefined]);
  });
});
