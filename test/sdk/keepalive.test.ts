import { describe, expect, it } from 'vitest';
import { FisheryClient, keepAlive, type SessionLoss } from '../../src/sdk/index.ts';
import type { Session } from '../../src/wire/sessions.ts';
import { hangUp, inTurn, json, problem, ScriptedServer, silence, type Answer } from '../support/scripted-server.ts';

/** The shortest lifetimes that the arithmetic allows: real ones are whole seconds, the loop does not care. */
const session = (ttl_s: number): Session => ({
  id: 'session-4',
  machine: 'm',
  holder: 'h',
  state: 'live',
  ending: null,
  ttl_s,
  expires_at: '2026-01-31T14:03:07.000000Z',
  opened_at: '2026-01-31T14:03:07.000000Z',
  ended_at: null,
  revision: 4,
});

const start = async (answer: Answer, ttl_s: number) => {
  const server = await ScriptedServer.start(answer);
  const client = new FisheryClient({ url: server.url, token: 't' });
  const losses: SessionLoss[] = [];
  const trouble: string[] = [];
  const startedAt = performance.now();
  let lostAt: number | undefined;
  const kept = keepAlive(client, session(ttl_s), {
    onLost: (loss) => {
      losses.push(loss);
      lostAt = performance.now() - startedAt;
    },
    onTrouble: (error) => trouble.push(error.code),
    random: () => 0,
  });
  return { server, kept, losses, trouble, lostAfterMs: () => lostAt };
};

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

describe('keeping a session alive', () => {
  it('sends one keepalive at once and then one every third of the time to live', async () => {
    const { server, kept, losses } = await start(json({ ...session(0.6), revision: 9 }), 0.6);
    await using _ = server;
    await pause(700);
    kept.stop();
    await kept.done;
    expect(server.seen.length).toBeGreaterThanOrEqual(3);
    expect(server.seen.length).toBeLessThanOrEqual(4);
    expect(server.seen[0]).toMatchObject({ method: 'POST', path: '/v1/sessions/session-4/keepalive' });
    expect(kept.session().revision).toBe(9);
    expect(losses).toEqual([]);
  });

  it('survives an outage that is shorter than the time to live', async () => {
    const { server, kept, losses, trouble } = await start(
      inTurn(json(session(1.5)), hangUp, problem(503, 'overloaded'), json(session(1.5))),
      1.5,
    );
    await using _ = server;
    await expect.poll(() => server.seen.length, { timeout: 4_000 }).toBeGreaterThanOrEqual(5);
    kept.stop();
    await kept.done;
    expect(trouble).toEqual(['connection_lost', 'overloaded']);
    expect(losses).toEqual([]);
  });

  it.each([
    ['ended', 410, 'session_ended'],
    ['ended', 404, 'session_not_found'],
    ['refused', 403, 'forbidden'],
  ])('tells at once that the session was %s (%i %s)', async (reason, status, code) => {
    const { server, kept, losses } = await start(problem(status, code), 30);
    await using _ = server;
    await kept.done;
    expect(losses).toHaveLength(1);
    expect(losses[0]).toMatchObject({ session: 'session-4', reason, error: { code } });
    expect(losses[0]?.detail).toContain(`session-4 of h on m: `);
    expect(server.seen).toHaveLength(1);
  });

  it.each([
    ['drops connections', hangUp],
    ['answers nothing', silence],
    ['is overloaded', problem(503, 'overloaded')],
  ])('tells when the time is up while the server %s', async (_name, afterwards) => {
    const { server, kept, losses, lostAfterMs } = await start(inTurn(json(session(0.9)), afterwards), 0.9);
    await using _ = server;
    await kept.done;
    expect(losses).toHaveLength(1);
    expect(losses[0]).toMatchObject({ reason: 'expired' });
    expect(losses[0]?.detail).toContain('no keepalive was answered for 0.9 s');
    // Not before its time, and not so late that the server's own clock has long run out.
    expect(lostAfterMs()).toBeGreaterThan(850);
    expect(lostAfterMs()).toBeLessThan(1_800);
    // It went on trying for as long as there was hope.
    expect(server.seen.length).toBeGreaterThanOrEqual(3);
  });

  it('says nothing more once it is stopped, also in the middle of a call', async () => {
    const { server, kept, losses, trouble } = await start(silence, 0.3);
    await using _ = server;
    await expect.poll(() => server.seen.length).toBe(1);
    kept.stop();
    await kept.done;
    await pause(500);
    expect(losses).toEqual([]);
    expect(trouble).toEqual([]);
    expect(server.seen).toHaveLength(1);
  });
});
