import { describe, expect, it } from 'vitest';
import { Forwarding, type ForwardingOptions } from '../../src/api/forwarding.ts';
import type { Relay } from '../../src/leases/store.ts';
import type { ForwardedAnswer, ForwardedRequest } from '../../src/wire/broker.ts';

const asked: Omit<ForwardedRequest, 'id'> = {
  request_id: 'r-1',
  method: 'POST',
  path: '/v1/sessions',
  body: { machine: 'edge-1', holder: 'squid' },
  idempotency_key: 'k',
  principal: { token: 7, name: 'alice', role: 'operator', holder: null },
  timeout_s: 30,
};
const answerTo = (id: string): ForwardedAnswer => ({
  id,
  status: 201,
  content_type: 'application/json',
  body: { to: id },
});
const server = (over: Partial<ForwardingOptions> = {}) =>
  new Forwarding({ pending_per_machine_max: 2, relay_ms: 20_000, ...over });

/** An agent that remembers what it was asked to do. */
function agent() {
  const requests: ForwardedRequest[] = [];
  return { requests, deliver: (request: ForwardedRequest) => requests.push(request) > 0 };
}

/** What servers with one database tell one another: everything to all, the teller included. */
function sharedRelay() {
  const listeners = new Set<(text: string) => void>();
  const told: string[] = [];
  const relay: Relay = {
    tell: async (text) => {
      told.push(text);
      for (const listener of listeners) queueMicrotask(() => listener(text));
    },
    onTold: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return { relay, told, listeners };
}

describe('a request to a broker', () => {
  it('goes to the agent of the machine, and its answer to whoever asked', async () => {
    const forwarding = server();
    const { requests, deliver } = agent();
    forwarding.attach('edge-1', deliver);
    const [first, second] = [forwarding.forward('edge-1', asked), forwarding.forward('edge-1', asked)];
    const [one, two] = requests.map(({ id }) => id);
    expect(requests[0]).toEqual({ id: one, ...asked });
    expect(one).not.toBe(two);
    expect(forwarding.answer('edge-1', answerTo(two ?? ''))).toBe(true);
    expect(forwarding.answer('edge-1', answerTo(one ?? ''))).toBe(true);
    expect(await first).toMatchObject({ body: { to: one } });
    expect(await second).toMatchObject({ body: { to: two } });
    expect(forwarding.pending).toBe(0);
  });

  it('says what it is that nothing comes back', async () => {
    expect(await server().forward('edge-1', asked)).toBe('no_agent');
    const deaf = server();
    deaf.attach('edge-1', () => false);
    expect(await deaf.forward('edge-1', asked)).toBe('not_delivered');
    const silent = server();
    silent.attach('edge-1', agent().deliver);
    expect(await silent.forward('edge-1', { ...asked, timeout_s: 0.005 })).toBe('silent');
    expect([deaf.pending, silent.pending]).toEqual([0, 0]);
  });

  it('waits with few others, machine by machine', async () => {
    const forwarding = server();
    const [here, there] = [agent(), agent()];
    forwarding.attach('edge-1', here.deliver);
    forwarding.attach('edge-2', there.deliver);
    const waiting = [forwarding.forward('edge-1', asked), forwarding.forward('edge-1', asked)];
    expect(await forwarding.forward('edge-1', asked)).toBe('too_many');
    waiting.push(forwarding.forward('edge-2', asked));
    expect(there.requests).toHaveLength(1);
    expect(forwarding.answer('edge-1', answerTo(here.requests[0]?.id ?? ''))).toBe(true);
    await waiting[0];
    waiting.push(forwarding.forward('edge-1', asked));
    expect(here.requests).toHaveLength(3);
    forwarding.close();
    expect(await Promise.all(waiting.slice(1))).toEqual(['silent', 'silent', 'silent']);
  });

  it('is answered by its own machine, once and in time', async () => {
    const forwarding = server();
    const { requests, deliver } = agent();
    forwarding.attach('edge-1', deliver);
    const waiting = forwarding.forward('edge-1', asked);
    const id = requests[0]?.id ?? '';
    expect(forwarding.answer('edge-2', answerTo(id))).toBe(false);
    expect(forwarding.answer('edge-1', answerTo('elsewhere.1'))).toBe(false);
    expect(forwarding.answer('edge-1', answerTo(id))).toBe(true);
    await waiting;
    expect(forwarding.answer('edge-1', answerTo(id))).toBe(false);
  });

  it('goes to the latest stream of an agent, as long as that is open', async () => {
    const forwarding = server();
    const [old, latest] = [agent(), agent()];
    const detachOld = forwarding.attach('edge-1', old.deliver);
    const detachLatest = forwarding.attach('edge-1', latest.deliver);
    detachOld();
    const waiting = forwarding.forward('edge-1', asked);
    expect([old.requests.length, latest.requests.length]).toEqual([0, 1]);
    detachLatest();
    expect(await forwarding.forward('edge-1', asked)).toBe('no_agent');
    forwarding.close();
    await waiting;
  });
});

describe('a request to a broker whose agent listens to another server', () => {
  it('finds it there, and the answer comes back from whichever server it was given to', async () => {
    const { relay, told } = sharedRelay();
    const [asking, attached, third] = [server({ relay }), server({ relay }), server({ relay })];
    const { requests, deliver } = agent();
    attached.attach('edge-1', deliver);
    const waiting = asking.forward('edge-1', asked);
    await expect.poll(() => requests.length).toBe(1);
    expect(third.answer('edge-1', answerTo(requests[0]?.id ?? ''))).toBe(true);
    expect(await waiting).toMatchObject({ status: 201, body: { to: requests[0]?.id } });
    expect(told.map((text) => (JSON.parse(text) as { kind: string }).kind)).toEqual(['request', 'taken', 'answer']);
    // Nobody waits any more, which only the server that asked could know.
    expect(attached.answer('edge-1', answerTo(requests[0]?.id ?? ''))).toBe(true);
  });

  it('is given up soon where no server has that agent', async () => {
    const { relay } = sharedRelay();
    const asking = server({ relay, relay_ms: 5 });
    server({ relay });
    expect(await asking.forward('edge-1', asked)).toBe('no_agent');
    expect(asking.pending).toBe(0);
  });

  it('is waited for once it is on its way', async () => {
    const { relay } = sharedRelay();
    const asking = server({ relay, relay_ms: 5 });
    const { requests, deliver } = agent();
    server({ relay }).attach('edge-1', deliver);
    expect(await asking.forward('edge-1', { ...asked, timeout_s: 0.2 })).toBe('silent');
    expect(requests).toHaveLength(1);
  });

  it('is not told of to others where the agent listens here', async () => {
    const { relay, told, listeners } = sharedRelay();
    const asking = server({ relay });
    const { requests, deliver } = agent();
    asking.attach('edge-1', deliver);
    const waiting = asking.forward('edge-1', asked);
    expect(asking.answer('edge-1', answerTo(requests[0]?.id ?? ''))).toBe(true);
    await waiting;
    expect(told).toEqual([]);
    asking.close();
    expect(listeners.size).toBe(0);
  });

  it('survives that nobody can be told', async () => {
    const errors: unknown[] = [];
    const relay: Relay = { tell: () => Promise.reject(new Error('no connection')), onTold: () => () => {} };
    const asking = server({ relay, relay_ms: 5, onError: (error) => errors.push(error) });
    expect(await asking.forward('edge-1', asked)).toBe('no_agent');
    expect(errors).toEqual([new Error('no connection')]);
  });
});
