import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FlowQuery } from '../../src/wire/agent.ts';
import { Attribution, AttributionHistory } from '../../src/wire/attribution.ts';
import { Lease } from '../../src/wire/leases.ts';
import { furnished, handOver, type Answer, type Furnished } from '../support/api-world.ts';
import { TestStream } from '../support/event-stream.ts';

/** Who had a port, asked over HTTP, with an agent that is connected, silent, or away. */

let f: Furnished;
let agent: TestStream | undefined;
let block: Lease;
let fishLease: Lease;

beforeEach(async () => {
  f = await furnished({ limits: { flow_query_ms: 100 } });
  await f.world.app.listen({ host: '127.0.0.1', port: 0 });
  const share = async (token: string, holder: string): Promise<Lease> => {
    const { id } = await f.world.openSession(token, 'edge-1', holder);
    const [lease] = await f.world.grant(token, id, [{ protocol: 'tcp', mode: 'shared' }]);
    if (lease === undefined) throw new Error('one was asked for');
    return lease;
  };
  block = await share(f.haproxy, 'haproxy');
  fishLease = await share(f.agent, 'fish');
  expect(fishLease.ports).toEqual(block.ports);
});
afterEach(async () => {
  agent?.close();
  agent = undefined;
  await f.world[Symbol.asyncDispose]();
});

const remote = '&remote_address=203.0.113.80&remote_port=443';
const call = (query = remote, over: Partial<{ protocol: string; port: number }> = {}): Promise<Answer> =>
  f.world.call(
    'GET',
    `/v1/attribution?address=${block.address}&protocol=${over.protocol ?? 'tcp'}&port=${over.port ?? block.ports.first}${query}`,
    { token: f.viewer },
  );

const ask = async (...of: Parameters<typeof call>): Promise<Attribution> => (await call(...of)).as(Attribution);

const connect = async (): Promise<TestStream> => {
  const stream = await TestStream.open(f.world.app, 'edge-1', { token: f.agent });
  await stream.until((events) => events.length > 0);
  return stream;
};

/** An agent that answers every question with these flows. */
async function agentWith(flows: (query: FlowQuery) => object[]): Promise<FlowQuery[]> {
  agent = await connect();
  const asked: FlowQuery[] = [];
  const stream = agent;
  void stream
    .until(() => {
      for (const { data } of stream.named('query').slice(asked.length)) {
        const query = FlowQuery.parse(JSON.parse(data));
        asked.push(query);
        void f.world.call('POST', '/v1/machines/edge-1/flow-answers', {
          token: f.agent,
          body: {
            id: query.id,
            covers_since: '2020-01-01T00:00:00.000000Z',
            covers_through: query.at,
            clock_margin_s: 0,
            flows: flows(query),
          },
        });
      }
      return false;
    })
    .catch(() => {});
  return asked;
}
const flowOf = (query: FlowQuery) => ({
  holder: 'fish',
  lease: fishLease.id,
  client: '100.64.3.7:51312',
  remote_address: query.remote_address,
  remote_port: query.remote_port,
  opened_at: query.at,
  closed_at: null,
});

describe('a shared port', () => {
  it('is told apart by the flow log of the machine', async () => {
    const asked = await agentWith((query) => [flowOf(query)]);
    const body = await ask();
    expect(body).toMatchObject({
      machine: { id: 'edge-1' },
      certainty: 'exact',
      flow_log: 'match',
      holders: [{ holder: 'fish', lease: fishLease.id, basis: 'flow_log', client: '100.64.3.7:51312' }],
    });
    expect(asked).toMatchObject([
      {
        protocol: 'tcp',
        address: block.address,
        port: block.ports.first,
        remote_address: '203.0.113.80',
        remote_port: 443,
      },
    ]);
  });

  it('is the proxy’s when the fish has no such flow', async () => {
    await agentWith(() => []);
    expect(await ask()).toMatchObject({
      certainty: 'exact',
      flow_log: 'no_match',
      holders: [{ holder: 'haproxy', basis: 'only_candidate', client: null }],
    });
  });

  it('has candidates when no agent is connected, and the answer says why', async () => {
    const body = await ask();
    expect([body.certainty, body.flow_log, body.holders.length]).toEqual(['candidates', 'unreachable', 2]);
  });

  it('has candidates when the agent does not answer in time', async () => {
    agent = await connect();
    const began = performance.now();
    const body = await ask();
    expect(performance.now() - began).toBeGreaterThan(90);
    expect([body.certainty, body.flow_log]).toEqual(['candidates', 'unreachable']);
    expect(agent.named('query')).toHaveLength(1);
  });

  it('is asked of nobody when no remote is given', async () => {
    const asked = await agentWith(() => []);
    const body = await ask('');
    expect([body.certainty, body.flow_log]).toEqual(['candidates', 'not_asked']);
    expect(asked).toEqual([]);
  });

  it('asks the latest stream of the agent, and never an operator who watches', async () => {
    const old = await connect();
    const operator = await TestStream.open(f.world.app, 'edge-1', { token: f.world.operator });
    await operator.until((events) => events.length > 0);
    const asked = await agentWith((query) => [flowOf(query)]);
    expect((await ask()).flow_log).toBe('match');
    expect([asked.length, old.named('query').length, operator.named('query').length]).toEqual([1, 0, 0]);
    old.close();
    operator.close();
  });

  it('takes an answer from nobody but its machine', async () => {
    agent = await connect();
    const asking = ask();
    await agent.until((events) => events.some(({ event }) => event === 'query'));
    const { id } = FlowQuery.parse(JSON.parse(agent.named('query')[0]?.data ?? '{}'));
    const forged = await f.world.call('POST', '/v1/machines/edge-2/flow-answers', {
      token: f.otherAgent,
      body: { id, covers_since: null, covers_through: null, clock_margin_s: 0, flows: [] },
    });
    expect(forged.refusal).toEqual([410, 'flow_query_over']);
    expect((await asking).flow_log).toBe('unreachable');
  });

  it('answers many questions at once, each with its own', async () => {
    await agentWith((query) => (query.port % 2 === 0 ? [flowOf(query)] : []));
    const ports = Array.from({ length: 40 }, (_, i) => block.ports.first + i);
    const answers = await Promise.all(ports.map((port) => ask(remote, { port })));
    expect(answers.map(({ holders }) => holders[0]?.holder)).toEqual(
      ports.map((port) => (port % 2 === 0 ? 'fish' : 'haproxy')),
    );
  });
});

describe('an instant', () => {
  it('in any offset and precision is the same instant', async () => {
    const { granted_at } = block;
    const before = new Date(Date.parse(granted_at) - 1_000).toISOString();
    const at = (text: string) => ask(`&at=${encodeURIComponent(text)}`);
    expect((await at(before)).holders).toEqual([]);
    const shifted = granted_at
      .replace(/T(\d\d)/, (_, hour: string) => `T${String(Number(hour) + 2).padStart(2, '0')}`)
      .replace('Z', '+02:00');
    for (const text of [granted_at, shifted]) {
      const body = await at(text);
      expect(body.at).toBe(granted_at);
      expect(body.holders.map(({ holder }) => holder)).toEqual(['haproxy']);
    }
    expect((await at(granted_at.replace(/\d{6}Z$/, '000000Z'))).holders).toEqual([]);
  });

  it('is answered through the whole life of a lease and of its slice', async () => {
    const { world } = f;
    const stamps: Record<string, string> = {};
    const mark = (name: string) => {
      world.clock.advance_s(1);
      stamps[name] = new Date(Math.floor(world.clock.now / 1_000)).toISOString();
      world.clock.advance_s(1);
    };
    const { id } = await world.openSession(f.squid, 'edge-1', 'squid');
    mark('before');
    const [lease] = await world.grant(f.squid, id, [{ protocol: 'udp' }]);
    if (lease === undefined) throw new Error('one was asked for');
    mark('leased');
    await world.report(f.agent, 'edge-1', [lease], 'active');
    const release = { token: f.squid, body: { token: lease.token } };
    await world.must(Lease, 'POST', `/v1/leases/${lease.id}/release`, release);
    mark('ending');
    await world.report(f.agent, 'edge-1', [lease], 'empty');
    mark('cooling');
    world.clock.advance_s(20);
    await world.run({ kind: 'sweep', itemsMax: 100 });
    mark('ended');
    const answers: Record<string, string> = {};
    for (const [name, at] of Object.entries(stamps)) {
      const query = `address=${lease.address}&protocol=udp&port=${lease.ports.first}&at=${at}`;
      const { machine, certainty, holders } = await world.must(Attribution, 'GET', `/v1/attribution?${query}`);
      answers[name] = `${machine?.id} ${certainty} ${holders.map(({ holder }) => holder).join()}`;
    }
    expect(answers).toEqual({
      before: 'edge-1 none ',
      leased: 'edge-1 exact squid',
      ending: 'edge-1 exact squid',
      cooling: 'edge-1 none ',
      ended: 'edge-1 none ',
    });
  });
});

describe('an address', () => {
  it('of nobody belongs to nobody, in any spelling', async () => {
    const answer = await f.world.must(
      Attribution,
      'GET',
      '/v1/attribution?address=2001:DB8:0:0::1&protocol=tcp&port=443',
    );
    expect(answer).toMatchObject({ address: '2001:db8::1', machine: null, holders: [], certainty: 'none' });
  });
});

describe('the history', () => {
  const history = async (query: string): Promise<AttributionHistory> =>
    (await f.world.call('GET', `/v1/attribution/history?${query}`, { token: f.viewer })).as(AttributionHistory);

  it('tells when the machine granted itself, of what nobody is known', async () => {
    const { world } = f;
    await world.report(f.agent, 'edge-1', [block, fishLease], 'active');
    for (const { id } of [block, fishLease]) await world.call('POST', `/v1/leases/${id}/revoke`, { body: {} });
    await world.report(f.agent, 'edge-1', [block, fishLease], 'empty');
    await handOver(f);
    const at = (await world.must(Attribution, 'GET', `/v1/attribution?address=198.51.100.0&protocol=tcp&port=8192`)).at;
    for (const query of ['address=198.51.100.0&port=8192', 'machine=edge-1&holder=squid'])
      expect((await history(query)).machine_allocated).toMatchObject([
        { machine: 'edge-1', slice: f.slice, generation: 2, until: null },
      ]);
    const [own] = (await history('machine=edge-1&holder=squid')).machine_allocated;
    expect(Date.parse(own?.from ?? '')).toBeLessThanOrEqual(Date.parse(at));
    expect((await history(`machine=edge-1&holder=squid&until=${own?.from}`)).machine_allocated).toEqual([]);
    const port = '/v1/attribution?address=198.51.100.0&protocol=tcp&port=8192';
    expect(await world.must(Attribution, 'GET', port)).toMatchObject({
      ...{ machine: { id: 'edge-1', slice: f.slice, generation: 2 }, holders: [] },
      ...{ certainty: 'machine_allocated', complete_through: null },
    });
    expect(await world.must(Attribution, 'GET', `${port}&at=${block.granted_at}`)).toMatchObject({
      machine: { id: 'edge-1', generation: 1 },
      certainty: 'none',
    });
  });

  it('of a port lists who had it within a time, with how far it is known', async () => {
    const { world } = f;
    const began = block.granted_at;
    world.clock.advance_s(10);
    await world.report(f.agent, 'edge-1', [block, fishLease], 'active');
    const release = { token: f.haproxy, body: { token: block.token } };
    await world.must(Lease, 'POST', `/v1/leases/${block.id}/release`, release);
    await world.report(f.agent, 'edge-1', [block], 'empty');
    world.clock.advance_s(10);
    const place = `address=${block.address}&port=${block.ports.first}`;
    const { items, next, machines, history_since } = await history(`${place}&protocol=tcp`);
    expect([next, history_since]).toEqual([null, null]);
    expect(machines).toEqual([{ id: 'edge-1', complete_through: machines[0]?.complete_through }]);
    expect(items).toMatchObject([
      { lease: block.id, holder: 'haproxy', machine: 'edge-1', mode: 'shared', from: began, ending: 'released' },
      { lease: fishLease.id, holder: 'fish', until: null, ending: null, ports: block.ports },
    ]);
    const gone = items[0]?.until ?? '';
    expect((await history(`${place}&since=${gone}`)).items.map(({ holder }) => holder)).toEqual(['fish']);
    expect((await history(`${place}&since=${began}&until=${fishLease.granted_at}`)).items).toHaveLength(1);
    expect((await history(`${place}&protocol=udp`)).items).toEqual([]);
    const first = await history(`${place}&limit=1`);
    expect(first.items).toHaveLength(1);
    const rest = await history(`${place}&limit=1&cursor=${first.next}`);
    expect([rest.items.map(({ lease }) => lease), rest.next]).toEqual([[fishLease.id], null]);
  });

  it('of a holder lists what it had, and names its machine also when there is nothing', async () => {
    const mine = await history('machine=edge-1&holder=haproxy');
    expect(mine.items.map(({ lease }) => lease)).toEqual([block.id]);
    expect((await history('machine=edge-2&holder=haproxy')).items).toEqual([]);
    const none = await history('machine=edge-1&holder=nobody&since=2020-01-01T00:00:00Z');
    expect([none.items, none.machines.map(({ id }) => id)]).toEqual([[], ['edge-1']]);
  });

  it('says since when it is whole, and so does every answer about a port', async () => {
    const { world } = f;
    const { id } = await world.openSession(f.squid, 'edge-1', 'squid');
    const [lease] = await world.grant(f.squid, id, [{ protocol: 'udp' }]);
    if (lease === undefined) throw new Error('one was asked for');
    const at = lease.granted_at;
    await world.must(Lease, 'POST', `/v1/leases/${lease.id}/release`, { token: f.squid, body: { token: lease.token } });
    await world.report(f.agent, 'edge-1', [lease], 'empty');
    world.clock.advance_s(200);
    await world.run({ kind: 'sweep', itemsMax: 100 });
    const place = `address=${lease.address}&port=${lease.ports.first}&protocol=udp`;
    const before = await world.must(Attribution, 'GET', `/v1/attribution?${place}&at=${at}`);
    expect([before.certainty, before.history_since]).toEqual(['exact', null]);
    world.clock.advance_s(10);
    await world.store.prune({ now: world.clock.now, keptUs: 0, rowsMax: 100 });
    const after = await world.must(Attribution, 'GET', `/v1/attribution?${place}&at=${at}`);
    expect(after).toMatchObject({ machine: { id: 'edge-1' }, holders: [], certainty: 'unknown' });
    expect(after.history_since).toBe((await history(place)).history_since);
    expect((await history(`${place}&since=${at}`)).items).toEqual([]);
    const now = await world.must(Attribution, 'GET', `/v1/attribution?${place}`);
    expect(now.certainty).toBe('none');
  });
});
