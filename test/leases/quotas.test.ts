import { beforeEach, describe, expect, it } from 'vitest';
import type { Claim, Placement } from '../../src/leases/commands.ts';
import type { HolderLimits, Session } from '../../src/leases/model.ts';
import { limits as bounds } from '../../src/leases/limits.ts';
import { at, ledger, shared, tcp, udp, World } from '../support/world.ts';

/** One slice of 2,048 ports on a machine with an agent, and three holders. */
let w: World;
let web: Session;
let mail: Session;

beforeEach(async () => {
  w = new World();
  await w.pool('v4', ['198.51.100.0/31']);
  await w.machine('edge-1');
  for (const holder of ['web', 'mail', 'dns']) await w.holder('edge-1', holder);
  await w.ready('edge-1', 'v4');
  web = await w.session('edge-1', 'web', 3_600);
  mail = await w.session('edge-1', 'mail', 3_600);
});

type Limits = Readonly<{
  min?: Partial<HolderLimits['portsMin']>;
  max?: Partial<HolderLimits['portsMax']>;
  sessions?: number;
}>;
const none = { tcp: 0, udp: 0, icmp: 0 };
const all = { tcp: null, udp: null, icmp: null };
async function limit(name: string, limits: Limits | null): Promise<string> {
  const uid = { web: 900, mail: 901, dns: 902 }[name] ?? 903;
  const { min = {}, max = {}, sessions = null } = limits ?? {};
  const set = { portsMin: { ...none, ...min }, portsMax: { ...all, ...max }, sessionsMax: sessions };
  const result = await w.execute({
    ...({ kind: 'putHolder', machine: 'edge-1', name, holderKind: 'proxy', uid } as const),
    limits: limits && set,
  });
  return result.ok ? 'put' : result.error.code;
}

describe('the most ports that a holder may have', () => {
  it('counts what its leases have, of each protocol by itself, as they are rounded up', async () => {
    await limit('web', { max: { tcp: 16, udp: 4 } });
    await ledger([
      ['within', () => w.grant(web, tcp(5)), '198.51.100.0:4088-4095/tcp pending'],
      ['to the brim', () => w.grant(web, tcp(8)), '198.51.100.0:4080-4087/tcp pending'],
      ['one more', () => w.grant(web, tcp(1)), 'holder_ports_exceeded'],
      ['another protocol', () => w.grant(web, udp(4)), '198.51.100.0:4092-4095/udp pending'],
      ['of that too', () => w.grant(web, udp(1)), 'holder_ports_exceeded'],
      ['who is not limited', () => w.grant(mail, tcp(64)), '198.51.100.0:3968-4031/tcp pending'],
    ]);
    const refused = await w.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims: [tcp(2)] });
    expect(refused).toMatchObject({ error: { held: 16, ports: 2, max: 16, holder: 'web' } });
  });

  it('holds for all claims of a request together, and grants none when they are too many', async () => {
    const place = async (claims: readonly Claim[], placement: Placement) => {
      const result = await w.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims, placement });
      return result.ok ? 'granted' : result.error.code;
    };
    await limit('web', { max: { tcp: 16 } });
    await ledger([
      ['three of 8', () => w.grant(web, tcp(8, { count: 3 })), 'holder_ports_exceeded'],
      ['nothing came of it', async () => (await w.store.reader.leases({}, { limit: 9, cursor: null })).items.length, 0],
      ['on one address', () => place([tcp(8), tcp(8), tcp(1)], 'same_address'), 'holder_ports_exceeded'],
      ['spread', () => place([tcp(8), tcp(8), tcp(1)], 'spread'), 'holder_ports_exceeded'],
      ['as many as it may have', async () => (await w.leases(web, tcp(8, { count: 2 }))).length, 2],
    ]);
  });

  it('counts a lease until its ports are proven unused, and a reservation like any other', async () => {
    await limit('web', { max: { tcp: 8 } });
    const [lease] = await w.leases(web, tcp(8));
    if (!lease) throw new Error('one was asked for');
    await w.report(lease, 'active');
    await w.release(lease);
    await ledger([
      ['it is ending', () => w.grant(web, tcp(1)), 'holder_ports_exceeded'],
      ['proven empty', () => w.report(lease, 'empty'), 'taken'],
      ['again', () => w.grant(web, tcp(4)), '198.51.100.0:4084-4087/tcp pending'],
    ]);
    const reservation = { machine: 'edge-1', holder: 'web', unit: null };
    const reserve = (ports: number) => w.execute({ kind: 'grantLeases', scope: {}, reservation, claims: [tcp(ports)] });
    expect(await reserve(8)).toMatchObject({ error: { code: 'holder_ports_exceeded' } });
    expect(await reserve(4)).toMatchObject({ ok: true });
  });

  it('counts a shared block for each that is in it', async () => {
    await limit('web', { max: { tcp: 128 } });
    await limit('mail', { max: { tcp: 127 } });
    await ledger([
      ['a block', () => w.grant(web, shared(128)), '198.51.100.0:3968-4095/tcp shared late pending'],
      ['to join is to have', () => w.grant(mail, shared(128)), 'holder_ports_exceeded'],
    ]);
  });

  it('counts what was there before it was set, also after it was taken away and set again', async () => {
    const [first] = await w.leases(web, tcp(8));
    if (!first) throw new Error('one was asked for');
    await limit('web', { max: { tcp: 16 } });
    await ledger([
      ['8 there already', () => w.grant(web, tcp(16)), 'holder_ports_exceeded'],
      ['no more limits', () => limit('web', null), 'put'],
      ['so much', () => w.grant(web, tcp(16)), '198.51.100.0:4064-4079/tcp pending'],
      ['over', () => w.end(mail), 'ended released'],
      ['again', () => limit('web', { max: { tcp: 32 } }), 'put'],
      ['24 there', () => w.grant(web, tcp(16)), 'holder_ports_exceeded'],
      ['8 more', () => w.grant(web, tcp(8, at('198.51.100.0', 2_048))), '198.51.100.0:2048-2055/tcp pending'],
      ['full', () => w.grant(web, tcp(1)), 'holder_ports_exceeded'],
    ]);
  });

  it('lets a holder keep what it has when it is lowered below that', async () => {
    const [lease] = await w.leases(web, tcp(16));
    if (!lease) throw new Error('one was asked for');
    await limit('web', { max: { tcp: 8 } });
    await ledger([
      ['nothing more', () => w.grant(web, tcp(1)), 'holder_ports_exceeded'],
      ['it stays', () => w.look(lease), '198.51.100.0:4080-4095/tcp pending'],
    ]);
  });
});

describe('ports that are kept for a holder', () => {
  it('are not granted to others of the machine, while it can have them at any time', async () => {
    await limit('web', { min: { tcp: 1_024 } });
    await ledger([
      ['half is free for others', () => w.grant(mail, tcp(1_024)), '198.51.100.0:3072-4095/tcp pending'],
      ['no more', () => w.grant(mail, tcp(1)), 'ports_kept_for_others'],
      ['nor by name', () => w.grant(mail, tcp(1, at('198.51.100.0', 2_048))), 'ports_kept_for_others'],
      ['another protocol', () => w.grant(mail, udp(2_048)), '198.51.100.0:2048-4095/udp pending'],
      ['its own', () => w.grant(web, tcp(1_024)), '198.51.100.0:2048-3071/tcp pending'],
      ['now there are none', () => w.grant(mail, tcp(1)), 'no_ports'],
    ]);
  });

  it('are fewer by what it has, and as many again when it gave them back', async () => {
    await limit('web', { min: { tcp: 64 } });
    const [own] = await w.leases(web, tcp(64));
    if (!own) throw new Error('one was asked for');
    await ledger([
      ['it has them', () => w.grant(mail, tcp(1_024)), '198.51.100.0:2048-3071/tcp pending'],
      ['all the rest', () => w.grant(mail, tcp(512)), '198.51.100.0:3072-3583/tcp pending'],
      ['given back', () => w.release(own), '198.51.100.0:4032-4095/tcp ending released'],
      ['still its own', () => w.grant(mail, tcp(256)), '198.51.100.0:3584-3839/tcp pending'],
      ['it rests', () => w.report(own, 'empty'), 'taken'],
      ['kept again', () => w.grant(mail, tcp(128)), '198.51.100.0:3840-3967/tcp pending'],
      ['the last ones', () => w.grant(mail, tcp(1)), 'ports_kept_for_others'],
      ['its own', () => w.grant(web, tcp(64)), '198.51.100.0:3968-4031/tcp pending'],
    ]);
  });

  it('are kept for several holders together, and one may join a block for nothing', async () => {
    await limit('web', { min: { tcp: 512 } });
    await limit('dns', { min: { tcp: 1_024 } });
    await ledger([
      ['what is nobody’s', () => w.grant(mail, shared(512)), '198.51.100.0:3584-4095/tcp shared late pending'],
      ['nothing more', () => w.grant(mail, tcp(1)), 'ports_kept_for_others'],
      ['its own', () => w.grant(web, tcp(512)), '198.51.100.0:3072-3583/tcp pending'],
      ['not that of a third', () => w.grant(web, tcp(1)), 'ports_kept_for_others'],
      ['joined', () => w.grant(web, shared(512)), '198.51.100.0:3584-4095/tcp shared late pending'],
    ]);
  });
});

describe('more ports than there are that are kept', () => {
  it('are there for those they are kept for, first come, first served', async () => {
    await limit('web', { min: { tcp: 2_048 } });
    await limit('mail', { min: { tcp: 2_048 } });
    const dns = await w.session('edge-1', 'dns', 3_600);
    await ledger([
      ['who nothing is kept for', () => w.grant(dns, tcp(1)), 'ports_kept_for_others'],
      ['its own', () => w.grant(web, tcp(1_024)), '198.51.100.0:3072-4095/tcp pending'],
      ['the other’s own', () => w.grant(mail, tcp(512)), '198.51.100.0:2560-3071/tcp pending'],
      ['still nothing', () => w.grant(dns, tcp(1)), 'ports_kept_for_others'],
      ['the last ones', () => w.grant(web, tcp(512)), '198.51.100.0:2048-2559/tcp pending'],
      ['now there are none', () => w.grant(mail, tcp(1)), 'no_ports'],
    ]);
  });

  it('are there up to what is kept for each, by all blocks and claims of a request together', async () => {
    await limit('web', { min: { tcp: 1_024, udp: 8 } });
    await limit('mail', { min: { tcp: 2_048, udp: 2_048 } });
    const ask = async (...claims: readonly Claim[]) => {
      const result = await w.execute({ kind: 'grantLeases', scope: {}, session: web.id, claims });
      return result.ok ? result.value.length : result.error.code;
    };
    await ledger([
      ['a block beyond', () => ask(tcp(2_048)), 'ports_kept_for_others'],
      ['several beyond', () => ask(tcp(512, { count: 3 })), 'ports_kept_for_others'],
      ['the last claim beyond', () => ask(tcp(512), tcp(512), tcp(1)), 'ports_kept_for_others'],
      ['the first as well', () => ask(tcp(1), tcp(512), tcp(512)), 'ports_kept_for_others'],
      ['another protocol beyond', () => ask(tcp(8), udp(16)), 'ports_kept_for_others'],
      ['nothing came of these', async () => (await w.store.reader.leases({}, { limit: 9, cursor: null })).items, []],
      ['to the brim', () => ask(tcp(256, { count: 3 }), udp(8), tcp(256)), 5],
      ['one more', () => ask(tcp(1)), 'ports_kept_for_others'],
      ['the other’s own', () => w.grant(mail, tcp(1_024)), '198.51.100.0:2048-3071/tcp pending'],
    ]);
  });

  it('are fewer for who is in a shared block, and as many again when it left', async () => {
    await limit('web', { min: { tcp: 256 } });
    await limit('mail', { min: { tcp: 2_048 } });
    const [block] = await w.leases(web, shared(128));
    if (!block) throw new Error('one was asked for');
    await ledger([
      ['joined', () => w.grant(mail, shared(128)), '198.51.100.0:3968-4095/tcp shared late pending'],
      ['beyond', () => w.grant(web, tcp(256)), 'ports_kept_for_others'],
      ['its own', () => w.grant(web, tcp(128)), '198.51.100.0:3840-3967/tcp pending'],
      ['nothing more', () => w.grant(web, tcp(1)), 'ports_kept_for_others'],
      ['left', () => w.release(block), '198.51.100.0:3968-4095/tcp shared late ending released'],
      ['proven empty', () => w.report(block, 'empty'), 'taken'],
      ['its own again', () => w.grant(web, tcp(128)), '198.51.100.0:3712-3839/tcp pending'],
      ['all but what the other is in', () => w.grant(mail, tcp(1_024)), '198.51.100.0:2048-3071/tcp pending'],
    ]);
  });
});

describe('the most sessions that a holder may have', () => {
  it('counts those that are live', async () => {
    await limit('web', { sessions: 2 });
    const open = async () => {
      const result = await w.execute({
        kind: 'openSession',
        scope: {},
        machine: 'edge-1',
        holder: 'web',
        ttlUs: 30_000_000,
      });
      return result.ok ? 'opened' : result.error.code;
    };
    const together = async () => Promise.all([open(), open()]);
    await ledger([
      ['a second', open, 'opened'],
      ['a third', open, 'holder_sessions_exceeded'],
      ['another holder', async () => (await w.session('edge-1', 'mail')).state, 'live'],
      ['one ended', () => w.end(web), 'ended released'],
      ['two at once', together, ['opened', 'holder_sessions_exceeded']],
      ['late is late, though nobody swept', async () => w.clock.passSeconds(31), undefined],
      ['both are over', together, ['opened', 'opened']],
      ['no more', open, 'holder_sessions_exceeded'],
    ]);
  });
});

describe('limits of holders', () => {
  it('are of a bounded number of holders on one machine', async () => {
    for (let n = 0; n < bounds.limited_holders_max; n++)
      await w.execute({
        ...({ kind: 'putHolder', machine: 'edge-1', name: `h${n}`, holderKind: 'proxy', uid: 2_000 + n } as const),
        limits: { portsMin: none, portsMax: { ...all, tcp: 8 }, sessionsMax: null },
      });
    await ledger([
      ['one too many', () => limit('web', { sessions: 1 }), 'limited_holders_exceeded'],
      ['without', () => limit('web', null), 'put'],
    ]);
  });

  it('stay where the others of the batch ask for ports at the same moment', async () => {
    const [, ...granted] = await Promise.all([
      limit('web', { max: { tcp: 8 } }),
      ...[1, 2, 3].map(() => w.grant(web, tcp(4))),
    ]);
    expect(granted.filter((outcome) => outcome === 'holder_ports_exceeded')).toHaveLength(1);
  });
});
