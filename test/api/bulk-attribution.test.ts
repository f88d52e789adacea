import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'csv-parse/sync';
import { Attribution, BulkAnswer } from '../../src/wire/attribution.ts';
import type { Lease } from '../../src/wire/leases.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

/** Who had many ports, from a list in CSV or NDJSON to a list of the same kind. */

let f: Furnished;
let lease: Lease;
beforeEach(async () => {
  f = await furnished({ limits: { flow_query_ms: 50 } });
  const { id } = await f.world.openSession(f.haproxy, 'edge-1', 'haproxy');
  const [granted] = await f.world.grant(f.haproxy, id, [{ protocol: 'tcp', ports: 16 }]);
  if (granted === undefined) throw new Error('one was asked for');
  lease = granted;
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const post = (type: string, payload: string, token = f.viewer) =>
  f.world.call('POST', '/v1/attribution/bulk', { token, payload, headers: { 'content-type': type } });

const ndjson = async (...lines: (object | string)[]): Promise<BulkAnswer[]> => {
  const list = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n');
  const answer = await post('application/x-ndjson', list);
  expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/x-ndjson; charset=utf-8']);
  return answer.text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => BulkAnswer.parse(JSON.parse(line)));
};

const csv = async (list: string): Promise<Record<string, string>[]> => {
  const answer = await post('text/csv', list);
  expect([answer.status, answer.headers['content-type']]).toEqual([200, 'text/csv; charset=utf-8']);
  return parse<Record<string, string>>(answer.text, { columns: true });
};
const question = (over: object = {}) => ({
  ...{ address: lease.address, protocol: 'tcp', port: lease.ports.first, at: lease.granted_at },
  ...over,
});
const errorOf = (answer: BulkAnswer | undefined) => (answer && 'error' in answer ? answer.error.code : 'none');

describe('a list in NDJSON', () => {
  it('is answered line by line as each question would be alone', async () => {
    const at = lease.granted_at;
    const [first, second] = await ndjson(question({ ref: 'case-7' }), question({ port: lease.ports.first - 1 }));
    const query = `address=${lease.address}&protocol=tcp&port=${lease.ports.first}&at=${at}`;
    const alone = await f.world.must(Attribution, 'GET', `/v1/attribution?${query}`);
    expect(first).toEqual({ line: 1, ref: 'case-7', ...alone });
    expect(alone.certainty).toBe('exact');
    expect(second).toMatchObject({ line: 2, ref: null, machine: { id: 'edge-1' }, certainty: 'none' });
  });

  it('says in place what is wrong with a line, by its number, and goes on', async () => {
    const answers = await ndjson(
      question({ ref: 'good' }),
      '{"address": ',
      '',
      '[1, 2]',
      question({ port: 70_000, ref: 'bad' }),
      question({ at: undefined }),
      question({ at: '2099-01-01T00:00:00Z' }),
      question({ remote_port: 5 }),
      question({ addres: 'x' }),
      `{"ref": "${'x'.repeat(5_000)}"}`,
      question({ ref: 'good again' }),
    );
    expect(answers.map((answer) => [answer.line, errorOf(answer)])).toEqual([
      [1, 'none'],
      [2, 'malformed_request'],
      [4, 'malformed_request'],
      [5, 'validation_failed'],
      [6, 'validation_failed'],
      [7, 'instant_in_future'],
      [8, 'validation_failed'],
      [9, 'validation_failed'],
      [10, 'malformed_request'],
      [11, 'none'],
    ]);
    expect(answers.map(({ ref }) => ref).filter((ref) => ref !== null)).toEqual(['good', 'bad', 'good again']);
    expect(answers[3]).toMatchObject({ error: { detail: expect.stringMatching(/^port: /) as unknown } });
  });

  it('keeps its order however many lines it has, and misses none', async () => {
    const ports = Array.from({ length: 1_000 }, (_, n) => 8_192 + (n % 2_000));
    const answers = await ndjson(...ports.map((port) => question({ port })));
    expect(answers.map(({ line }) => line)).toEqual(ports.map((_, n) => n + 1));
    expect(answers.map((answer) => ('port' in answer ? answer.port : null))).toEqual(ports);
    const had = answers.filter((answer) => 'holders' in answer && answer.holders.length > 0);
    expect(had).toHaveLength(ports.filter((port) => port >= lease.ports.first && port <= lease.ports.last).length);
  });

  it('with nothing in it is answered with nothing', async () => {
    expect(await ndjson('')).toEqual([]);
    expect(await ndjson('\n', ' ', '\r')).toEqual([]);
  });
});

describe('a list in CSV', () => {
  it('has its columns in any order, and gets a line for each of its own', async () => {
    const { address, ports, granted_at } = lease;
    const rows = await csv(
      `\uFEFFport,ref,at,protocol,address,remote_port,remote_address\r\n` +
        `${ports.first},"case ""7"", old",${granted_at},tcp,${address},,\r\n\r\n` +
        `${ports.first},,${granted_at}, tcp ,${address},443,203.0.113.80`,
    );
    expect(rows).toMatchObject([
      {
        ...{ line: '2', ref: 'case "7", old', address, port: String(ports.first), machine: 'edge-1' },
        ...{ certainty: 'exact', holders: 'haproxy', leases: lease.id, basis: 'exclusive_lease', error: '' },
      },
      { line: '4', ref: '', certainty: 'exact', holders: 'haproxy' },
    ]);
  });

  it('says in place what is wrong with a line, and a quotation mark that is not closed takes no other along', async () => {
    const good = `${lease.address},tcp,${lease.ports.first},${lease.granted_at}`;
    const rows = await csv(`address,protocol,port,at\n"${good}\n${good}\n${good},more\n,tcp,1,x\n${good}\n`);
    expect(rows.map(({ line, error }) => [line, error])).toEqual([
      ['2', 'malformed_request'],
      ['3', ''],
      ['4', 'malformed_request'],
      ['5', 'validation_failed'],
      ['6', ''],
    ]);
    expect(rows[2]?.['detail']).toBe('it has 5 fields, the first line has 4');
  });

  it.each([
    ['', 'nobody knows "1"'],
    ['protocol', 'address is missing'],
    ['address,protocol,port', 'at is missing'],
    ['address,protocol,port,at,colour', 'nobody knows "colour"'],
    ['address,protocol,port,at,at', 'each of them once'],
    ['198.51.100.1,tcp,80,2026-01-31T14:03:07Z', 'nobody knows "198.51.100.1"'],
  ])('that begins with "%s" is refused as a whole', async (head, detail) => {
    const answer = await post('text/csv', `${head}\n1,2,3,4\n`);
    expect(answer.refusal).toEqual([400, 'malformed_request']);
    expect(answer.text).toContain(JSON.stringify(detail).slice(1, -1));
  });
});

describe('a list', () => {
  it('of another kind is refused', async () => {
    expect((await post('application/json', '[]')).refusal).toEqual([415, 'unsupported_media_type']);
    expect((await post('text/plain', 'x')).refusal).toEqual([415, 'unsupported_media_type']);
  });

  it('that is too long is refused before anything is looked up', async () => {
    const answer = await post('application/x-ndjson', '\n'.repeat(16_777_217));
    expect(answer.refusal).toEqual([413, 'body_too_large']);
  });

  it('asks an agent that keeps silent a few times, and not for each line', async () => {
    const fish = await f.world.openSession(f.agent, 'edge-1', 'fish');
    const [block] = await f.world.grant(f.agent, fish.id, [{ protocol: 'tcp', mode: 'shared' }]);
    if (block === undefined) throw new Error('one was asked for');
    const remote = { remote_address: '203.0.113.80', remote_port: 443 };
    const asked = { address: block.address, protocol: 'tcp', port: block.ports.first, at: block.granted_at };
    const began = performance.now();
    const answers = await ndjson(...Array.from({ length: 400 }, () => ({ ...asked, ...remote })));
    expect(performance.now() - began).toBeLessThan(400 * 50);
    expect(new Set(answers.map((answer) => ('flow_log' in answer ? answer.flow_log : answer.error.code)))).toEqual(
      new Set(['unreachable']),
    );
  });

  it('is one of a few at a time; the next is told to come back, and may when one is done', async () => {
    const long = Array.from({ length: 3_000 }, () => JSON.stringify(question())).join('\n');
    const first = Array.from({ length: 4 }, () => post('application/x-ndjson', long));
    await f.world.app.ready();
    let refusal: unknown;
    for (let tries = 0; tries < 100 && refusal === undefined; tries++) {
      const answer = await post('application/x-ndjson', JSON.stringify(question()));
      if (answer.status === 503) refusal = [answer.refusal, answer.headers['retry-after']];
    }
    expect(refusal).toEqual([[503, 'overloaded'], '5']);
    for (const answer of await Promise.all(first)) expect(answer.text.split('\n')).toHaveLength(3_001);
    expect(await ndjson(question())).toHaveLength(1);
  });

  it('makes room again when its reader goes away', async () => {
    await f.world.app.listen({ host: '127.0.0.1', port: 0 });
    const address = f.world.app.server.address();
    if (address === null || typeof address === 'string') throw new Error('no socket');
    const body = Array.from({ length: 20_000 }, () => JSON.stringify(question())).join('\n');
    for (let reader = 0; reader < 6; reader++) {
      const leaving = new AbortController();
      const response = await fetch(`http://127.0.0.1:${address.port}/v1/attribution/bulk`, {
        ...{ method: 'POST', body, signal: leaving.signal },
        headers: { 'content-type': 'application/x-ndjson', authorization: `Bearer ${f.viewer}` },
      });
      expect(response.status).toBe(200);
      await response.body?.getReader().read();
      leaving.abort();
      await expect
        .poll(async () => (await post('application/x-ndjson', JSON.stringify(question()))).status, { timeout: 5_000 })
        .toBe(200);
    }
  });
});
