import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Attribution, AttributionHistory } from '../../src/wire/attribution.ts';
import type { GrantedReportInput, ReportedLease } from '../../src/wire/broker.ts';
import { formatInstant } from '../../src/wire/instants.ts';
import { Lease, LeasePage } from '../../src/wire/leases.ts';
import { Machine } from '../../src/wire/machines.ts';
import { Session, SessionPage } from '../../src/wire/sessions.ts';
import { furnished, handOver, type CallOptions, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
  await handOver(f);
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const now = (after_s = 0): string => formatInstant(f.world.clock.now + after_s * 1_000_000);
const lease = (number: number, over: Partial<ReportedLease> = {}): ReportedLease => ({
  ...{ id: `lease-${number}`, token: `2.1.${number}`, session: 'session-1', holder: 'haproxy', slice: f.slice },
  ...{ protocol: 'tcp', ports: { first: 8_192, last: 8_199 }, mode: 'exclusive', binding: null, state: 'active' },
  ...{ ending: null, refusal: null, granted_at: now(), active_at: now(), ending_at: null, empty_at: null },
  ...{ reusable_at: null, ended_at: null, revision: number },
  ...over,
});
const session = () => ({
  ...{ id: 'session-1', holder: 'haproxy', state: 'live' as const, ending: null, ttl_s: 30, expires_at: now(30) },
  ...{ opened_at: now(), ended_at: null, revision: 1 },
});
async function report(over: Partial<GrantedReportInput>): Promise<void> {
  const body = { broker_epoch: 'one', after: 0, through: over.after ?? 0, as_of: now(), ...over };
  const { status, text } = await f.world.call('POST', '/v1/machines/edge-1/granted', { token: f.agent, body });
  if (status !== 200) throw new Error(text);
}
const begin = (over: Partial<GrantedReportInput> = {}) =>
  report({ snapshot: { page: 1, last: true, history_since: now() }, ...over });
const get = (path: string, options: CallOptions = {}) => f.world.call('GET', path, options);
const whose = 'allocator=machine&machine=edge-1';

describe('what a machine granted itself', () => {
  it('is listed and read beside what the server granted, whose numbers are others', async () => {
    await begin({
      sessions: [session()],
      leases: [lease(7), lease(8, { holder: 'squid', session: null, protocol: 'udp' })],
    });
    const ids = async (query: string, options: CallOptions = {}) =>
      (await get(`/v1/leases?${query}`, options)).as(LeasePage).items.map(({ id }) => id);
    expect(await ids(whose)).toEqual(['lease-7', 'lease-8']);
    expect(await ids(`${whose}&holder=squid`)).toEqual(['lease-8']);
    expect(await ids(`${whose}&session=session-1`)).toEqual(['lease-7']);
    expect(await ids(`${whose}&reserved=true`)).toEqual(['lease-8']);
    expect(await ids(`${whose}&protocol=udp&slice=${f.slice}`)).toEqual(['lease-8']);
    expect(await ids(whose, { token: f.haproxy })).toEqual(['lease-7']);
    expect(await ids(whose, { token: f.agent })).toEqual(['lease-7', 'lease-8']);
    expect(await ids('machine=edge-1')).toEqual([]);
    expect((await get(`/v1/leases/lease-7?${whose}`, { token: f.haproxy })).as(Lease)).toMatchObject({
      ...{ id: 'lease-7', token: '2.1.7', allocator: 'machine', machine: 'edge-1', pool: 'fra1', state: 'active' },
      ...{ address: '198.51.100.0', slice: f.slice, session: 'session-1' },
    });
    expect((await get(`/v1/sessions?${whose}&state=live`)).as(SessionPage).items).toMatchObject([
      { id: 'session-1', allocator: 'machine', machine: 'edge-1', holder: 'haproxy' },
    ]);
    expect((await get(`/v1/sessions/session-1?${whose}`, { token: f.haproxy })).as(Session).state).toBe('live');
  });

  it('is nobody else’s, and nothing that is not there', async () => {
    await begin({ sessions: [session()], leases: [lease(7)] });
    expect((await get(`/v1/leases/lease-7?${whose}`, { token: f.squid })).code).toBe('not_yours');
    expect((await get(`/v1/sessions/session-1?${whose}`, { token: f.squid })).code).toBe('not_yours');
    expect((await get(`/v1/leases?${whose}`, { token: f.otherAgent })).code).toBe('not_yours');
    expect((await get(`/v1/leases/lease-9?${whose}`)).code).toBe('lease_not_found');
    expect((await get(`/v1/sessions/session-9?${whose}`)).code).toBe('session_not_found');
    expect((await get('/v1/leases/lease-7')).code).toBe('lease_not_found');
    for (const [path, wrong] of [
      ['/v1/leases?allocator=machine', 'query.machine'],
      ['/v1/sessions?allocator=machine', 'query.machine'],
      ['/v1/leases/lease-7?allocator=machine', 'query.machine'],
      [`/v1/leases?${whose}&select=site%3Dx`, 'query.select'],
    ] as const)
      expect((await get(path)).paths).toEqual([wrong]);
  });
});

describe('how full a machine is that grants itself', () => {
  const ports = [
    { pool: 'fra1', family: 4, protocol: 'tcp', state: 'exclusive', ports: 128 },
    { pool: 'fra1', family: 6, protocol: 'tcp', state: 'exclusive', ports: 72 },
    { pool: 'fra1', family: 4, protocol: 'tcp', state: 'free', ports: 1_920 },
  ] as const;
  const counters = { granted: 5, refused: 1, ended: 2 };

  it('is told as its broker said, with as of when', async () => {
    expect((await get('/v1/machines/edge-1')).as(Machine).broker).toBeUndefined();
    const as_of = now();
    await begin({ ports: [...ports], counters, as_of });
    f.world.clock.advance_s(60);
    expect((await get('/v1/machines/edge-1', { token: f.agent })).as(Machine).broker).toMatchObject({
      ...{ broker_epoch: 'one', through: 0, as_of, ports, counters },
    });
    const { text } = await get('/metrics');
    expect(text).toContain('fishery_broker_ports{machine="edge-1",pool="fra1",protocol="tcp",state="exclusive"} 200\n');
    expect(text).toContain('fishery_broker_ports{machine="edge-1",pool="fra1",protocol="tcp",state="free"} 1920\n');
    expect(text).toContain('fishery_broker_leases{machine="edge-1",outcome="granted"} 5\n');
    expect(text).toMatch(/fishery_broker_report_age_seconds\{machine="edge-1"\} 60\.\d+\n/);
    expect(text).toContain('fishery_forwarded_requests_pending 0\n');
    // What the server counts is not mixed with what it was told.
    expect(text).toContain('fishery_machine_ports{machine="edge-1",protocol="tcp",state="machine_allocated"} 2048\n');
  });

  it('stays as it was told when a report says nothing of it', async () => {
    await begin({ ports: [...ports], counters });
    await report({ through: 3 });
    expect((await get('/v1/machines/edge-1')).as(Machine).broker).toMatchObject({ through: 3, ports, counters });
  });
});

describe('who had a port that a machine grants itself', () => {
  const ask = async (at: string, port = 8_192) =>
    (await get(`/v1/attribution?address=198.51.100.0&protocol=tcp&port=${port}&at=${at}`)).as(Attribution);
  const brief = ({ certainty, holders, machine, complete_through }: Attribution) => ({
    ...{ certainty, machine: machine?.id, complete_through },
    holders: holders.map(({ holder, lease: id, basis, allocator }) => `${holder} ${id} ${allocator} ${basis}`),
  });

  it('is told as far as the machine told, and not further', async () => {
    const before = now();
    f.world.clock.advance_s(10);
    await begin({ sessions: [session()] });
    const granted_at = now();
    f.world.clock.advance_s(10);
    const during = now();
    f.world.clock.advance_s(10);
    const as_of = now();
    await report({ through: 5, as_of, leases: [lease(7, { granted_at })] });
    f.world.clock.advance_s(10);
    const machine = 'edge-1';
    const holders = ['haproxy lease-7 machine exclusive_lease'];
    expect(brief(await ask(during))).toEqual({ certainty: 'exact', machine, holders, complete_through: as_of });
    expect(brief(await ask(during, 8_300))).toEqual({
      ...{ certainty: 'none', machine, holders: [], complete_through: as_of },
    });
    // It may have ended since, and another come.
    const since = ['haproxy lease-7 machine candidate'];
    expect(brief(await ask(now()))).toEqual({
      certainty: 'candidates',
      machine,
      holders: since,
      complete_through: as_of,
    });
    expect(brief(await ask(now(), 8_300))).toMatchObject({ certainty: 'machine_allocated', holders: [] });
    // Of before the broker began to tell, nothing.
    expect(brief(await ask(before))).toEqual({
      ...{ certainty: 'machine_allocated', machine, holders: [], complete_through: null },
    });
  });

  it('is told again when the report comes late, and stays so when it is over', async () => {
    await begin({ sessions: [session()] });
    const granted_at = now();
    f.world.clock.advance_s(10);
    const during = now();
    expect((await ask(during)).certainty).toBe('machine_allocated');
    f.world.clock.advance_s(10);
    const empty = now();
    const gone = { state: 'ended', ending: 'released', ending_at: empty, empty_at: empty, ended_at: empty } as const;
    f.world.clock.advance_s(10);
    await report({ through: 9, as_of: now(), leases: [lease(7, { granted_at, ...gone })] });
    expect(brief(await ask(during))).toMatchObject({
      certainty: 'exact',
      holders: ['haproxy lease-7 machine exclusive_lease'],
    });
    expect(brief(await ask(empty))).toMatchObject({ certainty: 'none', holders: [] });
  });

  it('is listed with the past of the server’s own, and what is not told is named as a gap', async () => {
    const assigned = now();
    f.world.clock.advance_s(10);
    const since = now();
    await begin({ sessions: [session()] });
    f.world.clock.advance_s(10);
    const as_of = now();
    await report({ through: 5, as_of, leases: [lease(7)] });
    f.world.clock.advance_s(10);
    const history = async (query: string) => (await get(`/v1/attribution/history?${query}`)).as(AttributionHistory);
    for (const query of ['address=198.51.100.0&port=8192', 'machine=edge-1&holder=haproxy']) {
      const { items, machine_allocated } = await history(query);
      expect(items).toMatchObject([
        { lease: 'lease-7', allocator: 'machine', holder: 'haproxy', generation: 2, until: null },
      ]);
      const gaps = machine_allocated.map(({ from, until }) => [from <= assigned ? 'before' : from, until]);
      expect(gaps).toEqual([
        [as_of, null],
        ['before', expect.stringMatching(/^2026/) as string],
      ]);
      expect((await history(`${query}&since=${now(-12)}&until=${as_of}`)).machine_allocated).toEqual([]);
    }
    expect((await history(`machine=edge-1&holder=haproxy&until=${since}`)).items).toEqual([]);
  });
});
