import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { grantedReport } from '../../src/api/examples.ts';
import { GrantedAnswer, report_entries_max, type ReportedLease } from '../../src/wire/broker.ts';
import { furnished, handOver, type Answer, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
  await handOver(f);
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const [example] = grantedReport.leases ?? [];
const lease = (over: Partial<ReportedLease> = {}) => ({
  ...example,
  slice: f.slice,
  token: '2.1.7',
  id: 'lease-7',
  ports: { first: 8_192, last: 8_199 },
  ...over,
});
const as_of = '2026-01-31T14:03:00.000000Z';
const first = { page: 1, last: true, history_since: as_of };
const report = (body: object, token = f.agent, machine = 'edge-1'): Promise<Answer> =>
  f.world.call('POST', `/v1/machines/${machine}/granted`, {
    token,
    body: { broker_epoch: 'one', after: 0, through: 0, as_of, ...body },
  });

describe('a report of a broker', () => {
  it('begins with a snapshot, goes on from where it was, and is the same answer when it comes again', async () => {
    expect((await report({})).problem).toMatchObject({
      ...{ status: 409, code: 'report_gap' },
      broker: { broker_epoch: null, through: 0, page: 0 },
    });
    expect((await report({ snapshot: first })).as(GrantedAnswer)).toEqual({
      ...{ broker_epoch: 'one', through: 0, page: 0, rejected: [] },
    });
    const next = { through: 9, leases: [lease()] };
    const known = { broker_epoch: 'one', through: 9, page: 0, rejected: [] };
    for (let time = 0; time < 3; time++) expect((await report(next)).as(GrantedAnswer)).toEqual(known);
    expect((await report({ after: 12, through: 20 })).problem).toMatchObject({
      code: 'report_gap',
      broker: { broker_epoch: 'one', through: 9, page: 0 },
    });
    expect((await report({ after: 9, through: 12 })).as(GrantedAnswer).through).toBe(12);
    expect((await report({ broker_epoch: 'two', after: 12, through: 13 })).code).toBe('report_gap');
  });

  it('is of so many pages as it takes, and only the last makes it whole', async () => {
    const page = (number: number, last: boolean, over: object = {}) =>
      report({ through: 50, snapshot: { ...first, page: number, last }, ...over });
    expect((await page(2, false)).code).toBe('report_gap');
    expect((await page(1, false, { leases: [lease()] })).as(GrantedAnswer)).toMatchObject({ through: 0, page: 1 });
    expect((await page(3, false)).problem.broker).toEqual({ broker_epoch: 'one', through: 0, page: 1 });
    expect((await page(2, false)).as(GrantedAnswer)).toMatchObject({ through: 0, page: 2 });
    expect((await page(2, false)).as(GrantedAnswer)).toMatchObject({ through: 0, page: 2 });
    expect((await page(3, true, { through: 51 })).code).toBe('report_gap');
    expect((await page(3, true)).as(GrantedAnswer)).toMatchObject({ through: 50, page: 0 });
    expect((await page(3, true)).as(GrantedAnswer)).toMatchObject({ through: 50, page: 0 });
  });

  it('says which entries cannot be, and takes the others', async () => {
    await report({ snapshot: first });
    const leases = [
      lease(),
      lease({ id: 'lease-8', token: '1.1.8' }),
      lease({ id: 'lease-9', token: '3.1.9' }),
      lease({ id: 'lease-10', slice: 'slice-999' }),
      lease({ id: 'lease-11', ports: { first: 10_240, last: 10_247 } }),
    ];
    const { rejected, through } = (await report({ through: 9, leases })).as(GrantedAnswer);
    expect(rejected.map(({ item, code }) => `${item} ${code}`)).toEqual([
      'lease-8 not_allocated',
      'lease-9 not_allocated',
      'lease-10 not_allocated',
      'lease-11 outside_slice',
    ]);
    expect(through).toBe(9);
    // The same report is the same answer, also where it was not taken as a whole.
    expect((await report({ through: 9, leases })).as(GrantedAnswer).rejected).toEqual(rejected);
  });

  it('is of the machine whose agent it is, and of the boot that has it', async () => {
    expect((await report({ snapshot: first }, f.otherAgent)).refusal).toEqual([403, 'not_yours']);
    expect((await report({ snapshot: first }, f.haproxy)).refusal).toEqual([403, 'forbidden']);
    expect((await report({ snapshot: first, boot_id: 'another' })).refusal).toEqual([409, 'machine_taken']);
    expect((await report({ snapshot: first, boot_id: 'boot' })).status).toBe(200);
  });

  it.each([
    ['goes back', { after: 9, through: 8 }, 'body.through'],
    ['is a snapshot of what came after', { after: 1, through: 1, snapshot: { ...first } }, 'body.after'],
    ['has a lease that is over and does not say when', { leases: [{ state: 'ended' }] }, 'body.leases[0].ended_at'],
    ['has one that rests until nobody knows', { leases: [{ state: 'cooling' }] }, 'body.leases[0].reusable_at'],
    ['has a shared one of udp', { leases: [{ mode: 'shared', protocol: 'udp' }] }, 'body.leases[0].binding'],
    ['has a token of another form', { leases: [{ token: '7' }] }, 'body.leases[0].token'],
  ])('that %s is refused', async (_, body, path) => {
    const leases = 'leases' in body ? body.leases.map((over: object) => ({ ...lease(), ...over })) : [];
    const answer = await report({ ...body, leases });
    expect([answer.code, answer.paths]).toEqual(['validation_failed', expect.arrayContaining([path])]);
  });

  it('has no more entries than one transaction should', async () => {
    const leases = Array.from({ length: report_entries_max + 1 }, (_, index) => lease({ id: `lease-${index + 1}` }));
    expect((await report({ snapshot: first, leases })).code).toBe('validation_failed');
    const taken = await report({ snapshot: first, leases: leases.slice(1) });
    expect(taken.as(GrantedAnswer).rejected).toEqual([]);
  });

  it('tells no watcher anything, however much it is', async () => {
    const before = await f.world.store.reader.revision();
    await report({
      snapshot: first,
      leases: [lease(), lease({ id: 'lease-8', ports: { first: 8_200, last: 8_201 } })],
    });
    expect(await f.world.store.reader.revision()).toBe(before);
  });
});

describe('a slice that a machine grants in itself', () => {
  const say = (state: 'empty') =>
    f.world.call('POST', '/v1/machines/edge-1/applied', {
      token: f.agent,
      body: { revision: 0, leases: [], slices: [{ slice: f.slice, generation: 2, state }] },
    });

  it('rests only when every lease that was reported there is proven empty', async () => {
    await report({ snapshot: first, leases: [lease()] });
    await f.world.call('POST', `/v1/slices/${f.slice}/drain`, { body: { force: true } });
    expect(JSON.parse((await say('empty')).text)).toMatchObject({ rejected: [{ item: f.slice, code: 'in_use' }] });
    const gone = { state: 'cooling', ending: 'moved', ending_at: as_of, empty_at: as_of, reusable_at: as_of } as const;
    await report({ through: 5, leases: [lease({ ...gone, revision: 2_000 })] });
    expect(JSON.parse((await say('empty')).text)).toMatchObject({ rejected: [] });
    f.world.clock.advance_s(200);
    for (let round = 0; round < 3; round++) await f.world.run({ kind: 'sweep', itemsMax: 100 });
    // It is nobody's by now: what is told as living there cannot be.
    const [late] = (await report({ after: 5, through: 6, leases: [lease({ id: 'lease-8' })] })).as(
      GrantedAnswer,
    ).rejected;
    expect(late?.code).toBe('stale_generation');
    const over = { ...gone, state: 'ended', ended_at: as_of } as const;
    const told = await report({ after: 6, through: 7, leases: [lease({ id: 'lease-8', ...over })] });
    expect(told.as(GrantedAnswer).rejected).toEqual([]);
  });
});
