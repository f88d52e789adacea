import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { describe, expect, it, vi } from 'vitest';
import { buildApp } from '../../src/api/app.ts';
import { formatSecret, hashSecret } from '../../src/api/bearer.ts';
import { endedSession } from '../../src/api/examples.ts';
import { defaultLimits } from '../../src/api/parts.ts';
import type { Role } from '../../src/leases/model.ts';
import type { Store } from '../../src/leases/store.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { ForwardedRequest } from '../../src/wire/broker.ts';
import { TestStream } from '../support/event-stream.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';
import { Replica } from '../support/replica.ts';
import { must } from '../support/world.ts';

const patience = { timeout: 30_000, interval: 50 };

/** A server on the database, as others are. */
async function server(store: Store) {
  const clock = new SteadyClock();
  const replica = await Replica.start(store, clock);
  const app = buildApp({
    ...{ leases: replica.service, reader: store.reader, feed: replica.feed, clock, relay: store.relay },
    ...{ logger: pino({ level: 'silent' }), version: '0', randomBytes, metricsOpen: true, processMetrics: false },
    limits: defaultLimits,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const token = async (role: Role, machine: string | null): Promise<string> => {
    const secret = formatSecret(randomBytes(32));
    const hash = hashSecret(secret);
    must(await replica.service.execute({ kind: 'createToken', name: role, role, machine, holder: null, hash }));
    return secret;
  };
  const close = async () => {
    await app.close();
    await replica[Symbol.asyncDispose]();
  };
  return { app, replica, token, close };
}

describe('a request to a broker whose agent listens to another server on the same database', () => {
  it('is carried out, and answered by way of a third', async () => {
    await using database = await temporaryDatabase();
    const [asked, attached, third] = [
      await server(await database.open()),
      await server(await database.open()),
      await server(await database.open()),
    ];
    const machine = { id: 'edge-1', labels: {}, enforcement: 'agent', fenceUs: 30_000_000 } as const;
    must(await asked.replica.service.execute({ kind: 'createMachine', ...machine }));
    const [operator, agent] = [await asked.token('operator', null), await asked.token('agent', 'edge-1')];
    const ask = () =>
      asked.app.inject({
        method: 'DELETE',
        url: '/v1/sessions/session-40?allocator=machine&machine=edge-1',
        headers: { authorization: `Bearer ${operator}` },
      });
    const stream = await TestStream.open(attached.app, 'edge-1', { token: agent });
    await stream.until((events) => events.length > 0);
    let answered = 0;
    void stream
      .until((events) => {
        for (const { data } of events.filter(({ event }) => event === 'request').slice(answered)) {
          const { id } = ForwardedRequest.parse(JSON.parse(data));
          answered++;
          void third.app.inject({
            method: 'POST',
            url: '/v1/machines/edge-1/answers',
            headers: { authorization: `Bearer ${agent}` },
            payload: { id, status: 200, body: endedSession },
          });
        }
        return false;
      })
      .catch(() => {});
    // Servers that were opened just now may not listen to one another yet.
    await vi.waitFor(async () => {
      const answer = await ask();
      expect([answer.statusCode, answer.json()]).toEqual([200, endedSession]);
    }, patience);
    expect(answered).toBeGreaterThan(0);
    stream.close();
    for (const one of [asked, attached, third]) await one.close();
  });
});
