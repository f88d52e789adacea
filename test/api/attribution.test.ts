import { describe, expect, it } from 'vitest';
import { asksFlowLog, attribute, type FlowLog, type Known, type Question } from '../../src/api/attribution.ts';
import type { Holder, Lease, Machine, Tenure } from '../../src/leases/model.ts';
import type { Address } from '../../src/net/address.ts';
import type { FlowAnswer } from '../../src/wire/agent.ts';
import { formatInstant } from '../../src/wire/instants.ts';
import { asCreated } from '../support/world.ts';

/** Seconds into an afternoon, as the core counts time. */
const t = (s: number): number => 1_769_868_000_000_000 + s * 1_000_000;
const address = '198.51.100.10' as Address;
const remote = { address: '203.0.113.80' as Address, port: 443 };

const tenure: Tenure = {
  ...{ slice: 12, generation: 1, machine: 'edge-1', from: t(0), until: null, allocator: 'server' },
  ...{ address, ports: { first: 8_192, last: 10_239 } },
};
const machine: Machine = {
  id: 'edge-1',
  labels: {},
  enforcement: 'agent',
  ...asCreated,
  fenceUs: 30_000_000,
  mark: null,
  nextHops: [],
  limitedHolders: 0,
  ownSlices: 0,
  agent: { bootId: 'b', version: '0.1.0', seenAt: t(95), appliedRevision: 50, mustApply: 0 },
  createdAt: t(-10),
  updatedAt: t(95),
  revision: 50,
};

const fish: Holder = {
  ...{
    machine: 'edge-1',
    name: 'fish',
    kind: 'fish',
    uid: null,
    cgroup: null,
    limits: null,
    sticky: { v4: null, v6: null },
  },
  ...{ createdAt: t(-5), updatedAt: t(-5), revision: 5 },
};

const lease = (id: number, holder: string, over: Partial<Lease> = {}): Lease => ({
  id,
  slice: 12,
  generation: 1,
  epoch: 1,
  session: 40,
  machine: 'edge-1',
  holder,
  pool: 'fra1',
  address,
  protocol: 'tcp',
  ports: { first: 9_984, last: 10_111 },
  mode: 'exclusive',
  binding: null,
  state: 'active',
  ending: null,
  refusal: null,
  unit: null,
  reason: null,
  forced: false,
  grantedAt: t(10),
  activeAt: t(11),
  endingAt: null,
  emptyAt: null,
  reusableAt: null,
  endedAt: null,
  revision: id,
  ...over,
});
const shared = (id: number, holder: string, over: Partial<Lease> = {}): Lease =>
  lease(id, holder, { mode: 'shared', binding: 'late', ...over });

const question = (over: Partial<Question> = {}): Question => ({
  address,
  protocol: 'tcp',
  port: 10_001,
  at: t(50),
  remote: null,
  ...over,
});
const known = (leases: readonly Lease[], over: Partial<Known> = {}): Known => ({
  now: t(100),
  tenure,
  machine,
  leases,
  holders: [fish],
  broker: null,
  historySince: null,
  flowLog: { status: 'not_asked' },
  ...over,
});

type Flow = FlowAnswer['flows'][number];
const flow = (over: Partial<Flow> = {}): Flow => ({
  holder: 'fish',
  lease: 'lease-2',
  client: '100.64.3.7:51312',
  remote_address: remote.address,
  remote_port: remote.port,
  opened_at: formatInstant(t(40)),
  closed_at: null,
  ...over,
});
const answered = (flows: readonly Flow[], over: Partial<FlowAnswer> = {}): FlowLog => ({
  status: 'answered',
  answer: {
    id: 'flow-1',
    covers_since: formatInstant(t(20)),
    covers_through: formatInstant(t(99)),
    clock_margin_s: 0,
    flows: [...flows],
    ...over,
  },
});
const holders = (q: Question, k: Known) => attribute(q, k).holders.map(({ holder, basis }) => `${holder}: ${basis}`);

describe('the machine', () => {
  it('is the one that owns the slice', () => {
    expect(attribute(question(), known([])).machine).toEqual({ id: 'edge-1', slice: 'slice-12', generation: 1 });
  });

  it('is all that is known where it granted itself, and nobody is said not to have had it', () => {
    const own = { ...tenure, allocator: 'machine' } as const;
    const answer = attribute(question(), known([], { tenure: own }));
    expect(answer).toMatchObject({ machine: { id: 'edge-1' }, holders: [], certainty: 'machine_allocated' });
    expect([answer.complete_through, answer.flow_log]).toEqual([null, 'not_asked']);
    const over = attribute(question(), known([], { tenure: { ...own, until: t(99) } }));
    expect([over.certainty, over.complete_through]).toEqual(['machine_allocated', null]);
    const before = attribute(question({ at: t(-1) }), known([], { tenure: own }));
    expect([before.machine, before.certainty]).toEqual([null, 'none']);
  });

  it('is none where no machine ever had the slice, and the table is complete about that', () => {
    const answer = attribute(question(), known([], { tenure: null, machine: null }));
    expect(answer).toMatchObject({ machine: null, holders: [], certainty: 'none', flow_log: 'not_asked' });
    expect(answer.complete_through).toBe(formatInstant(t(100)));
  });

  it.each([
    ['the instant before the assignment', t(0) - 1, null],
    ['the instant of the assignment', t(0), 'edge-1'],
    ['the last instant of the tenure', t(60) - 1, 'edge-1'],
    ['the instant at which the slice is free again', t(60), null],
  ])('at %s', (_when, at, expected) => {
    const ended = { ...tenure, until: t(60) };
    const answer = attribute(question({ at }), known([lease(1, 'a', { grantedAt: t(0) })], { tenure: ended }));
    expect(answer.machine?.id ?? null).toBe(expected);
    expect(answer.holders).toHaveLength(expected === null ? 0 : 1);
  });
});

describe('an exclusive lease', () => {
  it('names its holder for certain, without the flow log', () => {
    const answer = attribute(question(), known([lease(1, 'haproxy')]));
    expect(answer).toMatchObject({ certainty: 'exact', flow_log: 'not_asked' });
    expect(answer.holders).toEqual([
      {
        ...{ holder: 'haproxy', lease: 'lease-1', mode: 'exclusive', basis: 'exclusive_lease', client: null },
        ...{ from: formatInstant(t(10)), until: null },
      },
    ]);
  });

  const gone = lease(1, 'a', { state: 'ended', ending: 'released', endingAt: t(30), emptyAt: t(32), endedAt: t(152) });
  it.each([
    ['the instant before the grant', t(10) - 1, 0],
    ['the instant of the grant', t(10), 1],
    ['between the grant and the report of the agent', t(10) + 1, 1],
    ['the instant of the release: its sockets may still send', t(30), 1],
    ['the last instant before it was proven empty', t(32) - 1, 1],
    ['the instant at which it was proven empty', t(32), 0],
    ['the cooldown', t(100), 0],
    ['after the cooldown', t(200), 0],
  ])('at %s', (_when, at, count) => {
    const answer = attribute(question({ at }), known([gone], { now: t(300) }));
    expect(answer.holders).toHaveLength(count);
    expect(answer.certainty).toBe(count === 1 ? 'exact' : 'none');
    expect(answer.machine?.id).toBe('edge-1');
  });

  it('hands over to the next holder of the same ports without an instant that both have', () => {
    const next = lease(7, 'b', { grantedAt: t(32) });
    const at = (instant: number) => holders(question({ at: instant }), known([gone, next]));
    expect(at(t(32) - 1)).toEqual(['a: exclusive_lease']);
    expect(at(t(32))).toEqual(['b: exclusive_lease']);
  });

  it('does not speak for other ports, protocols, or after a refusal', () => {
    expect(holders(question({ port: 10_112 }), known([lease(1, 'a')]))).toEqual([]);
    expect(holders(question({ port: 9_983 }), known([lease(1, 'a')]))).toEqual([]);
    expect(holders(question({ port: 9_984 }), known([lease(1, 'a')]))).toHaveLength(1);
    expect(holders(question({ port: 10_111 }), known([lease(1, 'a')]))).toHaveLength(1);
    expect(holders(question({ protocol: 'udp' }), known([lease(1, 'a')]))).toEqual([]);
    expect(holders(question(), known([lease(1, 'a', { state: 'refused' })]))).toEqual([]);
  });

  it('of a fish is certain without its log, which only adds the client', () => {
    const k = known([lease(2, 'fish')], { flowLog: answered([flow()]) });
    expect(attribute(question({ remote }), k)).toMatchObject({
      certainty: 'exact',
      flow_log: 'match',
      holders: [{ holder: 'fish', basis: 'exclusive_lease', client: '100.64.3.7:51312' }],
    });
    const silent = attribute(question({ remote }), { ...k, flowLog: { status: 'unreachable' } });
    expect(silent).toMatchObject({ certainty: 'exact', flow_log: 'unreachable', holders: [{ client: null }] });
  });

  it('of a fish names no client when several had the port and no remote was given', () => {
    const k = known([lease(2, 'fish')], { flowLog: answered([flow(), flow({ client: '100.64.3.8:4000' })]) });
    expect(attribute(question(), k).holders[0]?.client).toBeNull();
  });
});

describe('a shared block', () => {
  const both = [shared(1, 'haproxy'), shared(2, 'fish')];
  const three = [...both, shared(3, 'squid')];

  it('has candidates and no more when no remote was given', () => {
    expect(attribute(question(), known(both))).toMatchObject({ certainty: 'candidates', flow_log: 'not_asked' });
    expect(holders(question(), known(both))).toEqual(['haproxy: candidate', 'fish: candidate']);
  });

  it('is certain as long as one holder alone is on it', () => {
    const alone = known([shared(1, 'haproxy'), shared(2, 'fish', { grantedAt: t(50) + 1 })]);
    expect(holders(question(), alone)).toEqual(['haproxy: only_candidate']);
    expect(attribute(question(), alone).certainty).toBe('exact');
    expect(holders(question({ at: t(50) + 1 }), alone)).toEqual(['haproxy: candidate', 'fish: candidate']);
  });

  it('is decided by a flow that the log has', () => {
    const answer = attribute(question({ remote }), known(both, { flowLog: answered([flow()]) }));
    expect(answer).toMatchObject({ certainty: 'exact', flow_log: 'match' });
    expect(answer.holders).toEqual([
      {
        ...{ holder: 'fish', lease: 'lease-2', mode: 'shared', basis: 'flow_log', client: '100.64.3.7:51312' },
        ...{ from: formatInstant(t(10)), until: null },
      },
    ]);
  });

  it.each([
    ['before the flow opened', { opened_at: formatInstant(t(50) + 1) }, 'no_match'],
    ['at the instant it opened', { opened_at: formatInstant(t(50)) }, 'match'],
    ['at the last instant before it closed', { closed_at: formatInstant(t(50) + 1) }, 'match'],
    ['at the instant it closed', { closed_at: formatInstant(t(50)) }, 'no_match'],
    ['to another port of the remote', { remote_port: 444 }, 'no_match'],
    ['to another remote', { remote_address: '203.0.113.81' as Address }, 'no_match'],
    ['of a holder that has no lease there', { holder: 'stranger' }, 'no_match'],
  ])('a flow %s', (_what, over, expected) => {
    const answer = attribute(question({ remote }), known(three, { flowLog: answered([flow(over)]) }));
    expect(answer.flow_log).toBe(expected);
    expect(answer.certainty).toBe(expected === 'match' ? 'exact' : 'candidates');
  });

  it('leaves one candidate when the log of the fish covers the instant and has no such flow', () => {
    const answer = attribute(question({ remote }), known(both, { flowLog: answered([]) }));
    expect(answer).toMatchObject({ certainty: 'exact', flow_log: 'no_match' });
    expect(answer.holders.map(({ holder, basis }) => [holder, basis])).toEqual([['haproxy', 'only_candidate']]);
  });

  it('speaks for a terminator as well: names its client, and rules it out where it had no such connection', () => {
    const holdersOfBoth = [fish, { ...fish, name: 'terminator', kind: 'terminator' as const, uid: 2_000 }];
    const three = [...both, shared(4, 'terminator')];
    const k = known(three, { holders: holdersOfBoth, flowLog: answered([flow({ holder: 'terminator' })]) });
    expect(attribute(question({ remote }), k)).toMatchObject({
      certainty: 'exact',
      holders: [{ holder: 'terminator', basis: 'flow_log', client: '100.64.3.7:51312' }],
    });
    expect(holders(question({ remote }), { ...k, flowLog: answered([]) })).toEqual(['haproxy: only_candidate']);
    expect(asksFlowLog(question(), known([lease(4, 'terminator')], { holders: holdersOfBoth }))).toBe(true);
  });

  it('leaves several candidates when several proxies remain, and rules the fish out', () => {
    expect(holders(question({ remote }), known(three, { flowLog: answered([]) }))).toEqual([
      'haproxy: candidate',
      'squid: candidate',
    ]);
  });

  it.each([
    ['begins after the instant', { covers_since: formatInstant(t(50) + 1) }, 'not_covered'],
    ['begins at the instant', { covers_since: formatInstant(t(50)) }, 'no_match'],
    ['ends at the instant', { covers_through: formatInstant(t(50)) }, 'no_match'],
    ['ends before the instant', { covers_through: formatInstant(t(50) - 1) }, 'not_covered'],
    ['knows nothing', { covers_since: null, covers_through: null }, 'not_covered'],
  ])('a log that %s', (_what, over, expected) => {
    const answer = attribute(question({ remote }), known(both, { flowLog: answered([], over) }));
    expect(answer.flow_log).toBe(expected);
    expect(answer.certainty).toBe(expected === 'no_match' ? 'exact' : 'candidates');
  });

  it('believes a flow that was recorded, also where the log as a whole does not reach', () => {
    const partial = answered([flow()], { covers_since: formatInstant(t(60)) });
    expect(holders(question({ remote }), known(both, { flowLog: partial }))).toEqual(['fish: flow_log']);
  });

  it('keeps every candidate when the log contradicts itself', () => {
    const two = answered([flow(), flow({ holder: 'haproxy', client: null })]);
    expect(attribute(question({ remote }), known(both, { flowLog: two })).certainty).toBe('candidates');
  });

  it('keeps every candidate, and says so, when the agent cannot be asked', () => {
    const answer = attribute(question({ remote }), known(both, { flowLog: { status: 'unreachable' } }));
    expect(answer).toMatchObject({ certainty: 'candidates', flow_log: 'unreachable' });
    expect(answer.holders).toHaveLength(2);
  });
});

describe("the margin of the flow log's clock", () => {
  const both = [shared(1, 'haproxy'), shared(2, 'fish')];
  const ms = (n: number): number => n * 1_000;
  /** A flow of one millisecond, as a log knows it that is up to ten off. */
  const short = flow({ opened_at: formatInstant(t(50)), closed_at: formatInstant(t(50) + ms(1)) });
  const log = (over: Partial<FlowAnswer> = {}, flows = [short]) =>
    answered(flows, { clock_margin_s: 0.01, covers_since: formatInstant(t(20)), ...over });

  it.each([
    ['in the millisecond of the flow', t(50) + 500, 'fish: flow_log', 'match'],
    ['as long before it as the clock may be late', t(50) - ms(10), 'fish: flow_log', 'match'],
    ['as long after it as the clock may be early', t(50) + ms(11) - 1, 'fish: flow_log', 'match'],
    ['before that', t(50) - ms(10) - 1, 'haproxy: only_candidate', 'no_match'],
    ['after that', t(50) + ms(11), 'haproxy: only_candidate', 'no_match'],
  ])('%s', (_when, at, expected, status) => {
    const answer = attribute(question({ remote, at }), known(both, { flowLog: log() }));
    expect(answer.holders.map(({ holder, basis }) => `${holder}: ${basis}`)).toEqual([expected]);
    expect([answer.flow_log, answer.flow_log_margin_s, answer.certainty]).toEqual([status, 0.01, 'exact']);
  });

  it.each([
    ['begins less than the margin before the instant', { covers_since: formatInstant(t(50) - ms(10) + 1) }, 2],
    ['ends less than the margin after the instant', { covers_through: formatInstant(t(50) + ms(10) - 1) }, 2],
    [
      'covers the instant and the margin around it',
      { covers_since: formatInstant(t(50) - ms(10)), covers_through: formatInstant(t(50) + ms(10)) },
      1,
    ],
  ])('rules nobody out where the log %s', (_what, over, candidates) => {
    expect(holders(question({ remote }), known(both, { flowLog: log(over, []) }))).toHaveLength(candidates);
  });

  it('keeps every candidate where the tuple changed hands within it', () => {
    const others = flow({ holder: 'haproxy', client: null, closed_at: formatInstant(t(50) - ms(3)) });
    const answer = attribute(question({ remote }), known(both, { flowLog: log({}, [short, others]) }));
    expect([answer.flow_log, answer.certainty, answer.holders.length]).toEqual(['not_covered', 'candidates', 2]);
  });
});

describe('what was removed', () => {
  const since = { historySince: t(60) };

  it('is unknown rather than nobody’s', () => {
    const answer = attribute(question(), known([], { ...since, tenure: null, machine: null }));
    expect(answer).toMatchObject({ machine: null, holders: [], certainty: 'unknown' });
    expect(answer.history_since).toBe(formatInstant(t(60)));
    const after = attribute(question({ at: t(60) }), known([], { ...since, tenure: null, machine: null }));
    expect(after.certainty).toBe('none');
  });

  it('cannot make an exclusive lease less certain', () => {
    expect(attribute(question(), known([lease(1, 'a')], since)).certainty).toBe('exact');
  });

  it('may have been others in a shared block, but for what the flow log proves', () => {
    const one = [shared(2, 'fish')];
    expect(holders(question(), known(one, since))).toEqual(['fish: candidate']);
    expect(attribute(question(), known(one, since)).certainty).toBe('candidates');
    expect(holders(question({ remote }), known(one, { ...since, flowLog: answered([flow()]) }))).toEqual([
      'fish: flow_log',
    ]);
    const both = [shared(1, 'haproxy'), ...one];
    expect(holders(question({ remote }), known(both, { ...since, flowLog: answered([]) }))).toEqual([
      'haproxy: candidate',
    ]);
  });
});

describe('how far the truth is known', () => {
  it('is now once the tenure is over: what is said of it later does not count', () => {
    const over = known([], { tenure: { ...tenure, until: t(60) }, machine: null });
    expect(attribute(question(), over).complete_through).toBe(formatInstant(t(100)));
  });

  it('is through the last keepalive of the agent', () => {
    expect(attribute(question(), known([])).complete_through).toBe(formatInstant(t(95)));
  });

  it('is unknown before the agent was ever seen', () => {
    expect(attribute(question(), known([], { machine: { ...machine, agent: null } })).complete_through).toBeNull();
  });

  it('is now where no agent reports and the table is all there is', () => {
    const bare: Machine = { ...machine, enforcement: 'none', agent: null };
    expect(attribute(question(), known([], { machine: bare })).complete_through).toBe(formatInstant(t(100)));
  });
});

describe('the flow log is asked', () => {
  const both = [shared(1, 'haproxy'), shared(2, 'fish')];
  it.each([
    ['for a shared block when the remote is given', question({ remote }), known(both), true],
    ['not for a shared block without a remote', question(), known(both), false],
    ['for the client of a fish', question(), known([lease(2, 'fish')]), true],
    ['not about proxies alone', question({ remote }), known([shared(1, 'haproxy'), shared(3, 'squid')]), false],
    ['not when nobody had the port', question({ remote }), known([]), false],
    [
      'not where there is no agent',
      question({ remote }),
      known(both, { machine: { ...machine, enforcement: 'none' } }),
      false,
    ],
  ])('%s', (_when, q, k, expected) => {
    expect(asksFlowLog(q, k)).toBe(expected);
  });
});
