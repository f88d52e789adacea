import { describe, expect, it } from 'vitest';
import { FlowQueries } from '../../src/api/flow-queries.ts';
import type { FlowAnswer, FlowQuery } from '../../src/wire/agent.ts';

const question: Omit<FlowQuery, 'id'> = {
  protocol: 'tcp',
  address: '198.51.100.10',
  port: 9_001,
  remote_address: '203.0.113.80',
  remote_port: 443,
  at: '2026-01-31T14:03:07.000000Z',
};
const answerTo = (id: string): FlowAnswer => ({
  id,
  covers_since: null,
  covers_through: null,
  clock_margin_s: 0,
  flows: [],
});
const queries = (over: Partial<{ timeout_ms: number; pending_max: number }> = {}) =>
  new FlowQueries({ timeout_ms: 5_000, pending_max: 2, ...over });

/** An agent that remembers what it was asked. */
function agent() {
  const asked: FlowQuery[] = [];
  return { asked, deliver: (query: FlowQuery) => asked.push(query) > 0 };
}

describe('a question to a flow log', () => {
  it('goes to the agent of the machine, and its answer to whoever asked', async () => {
    const flows = queries();
    const { asked, deliver } = agent();
    flows.attach('edge-1', deliver);
    const [first, second] = [flows.ask('edge-1', question), flows.ask('edge-1', question)];
    expect(asked.map(({ id }) => id)).toEqual(['flow-1', 'flow-2']);
    expect(asked[0]).toMatchObject(question);
    expect(flows.answer('edge-1', answerTo('flow-2'))).toBe(true);
    expect(flows.answer('edge-1', answerTo('flow-1'))).toBe(true);
    expect((await first)?.id).toBe('flow-1');
    expect((await second)?.id).toBe('flow-2');
    expect(flows.pending).toBe(0);
  });

  it('is not asked where no agent is connected', async () => {
    expect(await queries().ask('edge-1', question)).toBeUndefined();
  });

  it('is given up at once when it cannot be delivered', async () => {
    const flows = queries();
    flows.attach('edge-1', () => false);
    expect(await flows.ask('edge-1', question)).toBeUndefined();
    expect(flows.pending).toBe(0);
  });

  it('is given up after its time, and a later answer finds nobody', async () => {
    const flows = queries({ timeout_ms: 5 });
    flows.attach('edge-1', agent().deliver);
    expect(await flows.ask('edge-1', question)).toBeUndefined();
    expect(flows.answer('edge-1', answerTo('flow-1'))).toBe(false);
  });

  it('is answered once, and by the machine that was asked', async () => {
    const flows = queries();
    flows.attach('edge-1', agent().deliver);
    const asked = flows.ask('edge-1', question);
    expect(flows.answer('edge-2', answerTo('flow-1'))).toBe(false);
    expect(flows.answer('edge-1', answerTo('flow-9'))).toBe(false);
    expect(flows.answer('edge-1', answerTo('flow-1'))).toBe(true);
    await asked;
    expect(flows.answer('edge-1', answerTo('flow-1'))).toBe(false);
  });

  it('goes to the latest stream of the agent, and to no stream that has ended', async () => {
    const flows = queries();
    const [old, young] = [agent(), agent()];
    const detachOld = flows.attach('edge-1', old.deliver);
    const detachYoung = flows.attach('edge-1', young.deliver);
    const asked = flows.ask('edge-1', question);
    expect([old.asked.length, young.asked.length]).toEqual([0, 1]);
    flows.answer('edge-1', answerTo('flow-1'));
    await asked;
    // The end of the old stream must not take the young one away.
    detachOld();
    void flows.ask('edge-1', question);
    expect(young.asked).toHaveLength(2);
    flows.answer('edge-1', answerTo('flow-2'));
    detachYoung();
    expect(await flows.ask('edge-1', question)).toBeUndefined();
  });

  it('is refused when too many are open', async () => {
    const flows = queries();
    flows.attach('edge-1', agent().deliver);
    const open = [flows.ask('edge-1', question), flows.ask('edge-1', question)];
    expect(await flows.ask('edge-1', question)).toBeUndefined();
    for (const id of ['flow-1', 'flow-2']) flows.answer('edge-1', answerTo(id));
    await Promise.all(open);
  });
});
