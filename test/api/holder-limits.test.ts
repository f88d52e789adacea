import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Explanation } from '../../src/wire/explain.ts';
import { Holder } from '../../src/wire/machines.ts';
import { furnished, type Furnished } from '../support/api-world.ts';

let f: Furnished;
beforeEach(async () => {
  f = await furnished();
});
afterEach(async () => f.world[Symbol.asyncDispose]());

const path = '/v1/machines/edge-1/holders/squid';
const squid = { kind: 'proxy', uid: 1_002 };
const put = (limits?: object | null) =>
  f.world.must(Holder, 'PUT', path, { body: { ...squid, ...(limits !== undefined && { limits }) } });

describe('limits of a holder', () => {
  it('are shown as they were put, stay when nothing is said of them, and are gone when that is said', async () => {
    const limits = { ports_min: { tcp: 8 }, ports_max: { tcp: 64, udp: 0 }, sessions_max: 0 };
    expect((await put(limits)).limits).toEqual(limits);
    const before = (await put(limits)).updated_at;
    expect((await put({ ports_max: { tcp: 64 } })).limits).toEqual({ ports_min: {}, ports_max: { tcp: 64 } });
    const changed = await put({ ports_max: { tcp: 65 } });
    expect(changed.updated_at).not.toBe(before);
    expect(await put()).toEqual(changed);
    for (const nothing of [null, {}, { ports_min: { icmp: 0 } }]) {
      await put(limits);
      expect((await put(nothing)).limits).toBeNull();
      expect((await put()).limits).toBeNull();
    }
  });

  it('make sense by themselves', async () => {
    const paths = async (limits: unknown) => {
      const answer = await f.world.call('PUT', path, { body: { ...squid, limits } });
      return [answer.status, ...answer.paths];
    };
    expect(await paths({ ports_min: { tcp: 9 }, ports_max: { tcp: 8 } })).toEqual([400, 'body.limits.ports_min']);
    expect(await paths({ ports_max: { tcp: 2 ** 40 } })).toEqual([400, 'body.limits.ports_max.tcp']);
    expect(await paths({ ports_max: { sctp: 1 } })).toEqual([400, 'body.limits.ports_max.sctp']);
    expect(await paths({ sessions_max: 1.5 })).toEqual([400, 'body.limits.sessions_max']);
  });

  it('refuse what is beyond them, with a code of its own each', async () => {
    await put({ ports_max: { tcp: 64 }, ports_min: { udp: 2_048 }, sessions_max: 1 });
    const session = (await f.world.openSession(f.squid, 'edge-1', 'squid')).id;
    const other = (await f.world.openSession(f.haproxy, 'edge-1', 'haproxy')).id;
    const grant = async (token: string, whose: string, protocol: string, ports: number) =>
      (
        await f.world.call('POST', '/v1/leases?wait=stored', {
          token,
          body: { session: whose, claims: [{ protocol, ports }] },
        })
      ).refusal;
    expect(await grant(f.squid, session, 'tcp', 65)).toEqual([409, 'holder_ports_exceeded']);
    expect(await grant(f.haproxy, other, 'udp', 1)).toEqual([503, 'ports_kept_for_others']);
    const body = { machine: 'edge-1', holder: 'squid', ttl_s: 30 };
    expect((await f.world.call('POST', '/v1/sessions', { token: f.squid, body })).refusal).toEqual([
      ...[409, 'holder_sessions_exceeded'],
    ]);
    const claim = { protocol: 'tcp', ports: 128 };
    const why = await f.world.must(Explanation, 'POST', '/v1/explain', { body: { session, claims: [claim] } });
    expect(why.reason?.code).toBe('holder_ports_exceeded');
    expect(why.reason?.detail).toContain('has 0 tcp ports and would have 128; it may have 64');
  });
});
