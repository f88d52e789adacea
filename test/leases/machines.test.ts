import { beforeEach, describe, expect, it } from 'vitest';
import { MemoryStore } from '../support/memory-store.ts';
import { ledger, second, tcp, World } from '../support/world.ts';

let w: World;

beforeEach(() => {
  w = new World();
});

describe('a machine', () => {
  it('is created once', () =>
    ledger([
      ['new', () => w.machine('edge-1'), 'edge-1'],
      ['again', () => w.machine('edge-1', 'none'), 'machine_exists'],
    ]));

  it('is changed in what is said and nothing else, and the log hears of what changed', async () => {
    await w.machine('edge-1');
    const update = async (change: object) => {
      const before = w.events.length;
      const result = await w.execute({ kind: 'updateMachine', id: 'edge-1', ...change });
      return result.ok
        ? `${result.value.state} ${JSON.stringify(result.value.labels)} ${w.events.length - before}`
        : result.error.code;
    };
    await ledger([
      ['labels', () => update({ labels: { site: 'fra1' } }), 'active {"site":"fra1"} 1'],
      ['state', () => update({ state: 'cordoned' }), 'cordoned {"site":"fra1"} 1'],
      ['the same', () => update({ state: 'cordoned', labels: { site: 'fra1' } }), 'cordoned {"site":"fra1"} 0'],
      ['no labels', () => update({ labels: {} }), 'cordoned {} 1'],
      ['nothing', () => update({}), 'cordoned {} 0'],
      ['an unknown one', () => w.execute({ kind: 'updateMachine', id: 'x' }).then(({ ok }) => ok), false],
    ]);
  });

  it('is fenced when its agent falls silent, and back with its next word', async () => {
    await w.machine('edge-1', 'agent', 30);
    await w.pool('v4', ['198.51.100.0/32']);
    await w.holder('edge-1', 'web');
    await w.ready('edge-1', 'v4');
    const session = await w.session('edge-1', 'web', 3_600);
    await ledger([
      ['never heard of: not judged', () => w.pass(100), undefined],
      ['active', () => w.lookMachine('edge-1'), 'active'],
      ['the agent lives', () => w.alive('edge-1'), 'for 30 s'],
      ['29 s of silence', () => w.pass(29), undefined],
      ['active', () => w.lookMachine('edge-1'), 'active'],
      ['30 s', () => w.pass(1), undefined],
      ['fenced', () => w.lookMachine('edge-1'), 'fenced'],
      ['nothing new', () => w.grant(session, tcp(1)), 'machine_not_active'],
      ['its sessions are its own', () => w.keep(session), 'until +3600 s'],
      ['the clocks may differ', () => w.alive('edge-1', 'boot-2'), 'machine_taken'],
      ['a second', () => w.pass(1), undefined],
      ['back', () => w.alive('edge-1', 'boot-2'), 'for 30 s'],
      ['active', () => w.lookMachine('edge-1'), 'active'],
      ['as before', () => w.grant(session, tcp(1)), '198.51.100.0:4095/tcp pending'],
    ]);
    expect(await w.store.reader.machine('edge-1')).toMatchObject({ agent: { bootId: 'boot-2', seenAt: w.clock.us } });
  });

  it('has its full fence after a start of the server', async () => {
    await w.machine('edge-1', 'agent', 30);
    await w.machine('edge-2', 'agent', 300);
    await w.alive('edge-1');
    await w.alive('edge-2');
    w.clock.passSeconds(1_000);
    const restarted = new World(w.store, w.clock);
    await ledger([
      ['at once', () => restarted.sweep(), 0],
      ['29 s later', () => restarted.pass(29), undefined],
      ['active', () => w.lookMachine('edge-1'), 'active'],
      ['30 s', () => restarted.pass(1), undefined],
      ['fenced', () => w.lookMachine('edge-1'), 'fenced'],
      ['the other has longer', () => w.lookMachine('edge-2'), 'active'],
      ['300 s', () => restarted.pass(270), undefined],
      ['fenced as well', () => w.lookMachine('edge-2'), 'fenced'],
    ]);
  });

  it('that is cordoned stays so when its agent falls silent', async () => {
    await w.machine('edge-1');
    await w.alive('edge-1');
    await w.execute({ kind: 'updateMachine', id: 'edge-1', state: 'cordoned' });
    await w.pass(100);
    await w.alive('edge-1');
    expect(await w.lookMachine('edge-1')).toBe('cordoned');
  });

  it('is one boot of one host at a time: another is refused until the guard of the former has shut', async () => {
    const store = new MemoryStore();
    w = new World(store);
    await w.machine('edge-1', 'agent', 30);
    await w.alive('edge-1', 'host-a');
    const report = async (bootId?: string) => {
      const said = { machine: 'edge-1', revision: store.revision, leases: [], slices: [] };
      const done = await w.execute({ kind: 'report', bootId, ...said });
      return done.ok ? 'taken' : done.error.code;
    };
    const seen = structuredClone(store.tables.machines);
    await ledger([
      ['a clone', () => w.alive('edge-1', 'host-b'), 'machine_taken'],
      ['its reports', () => report('host-b'), 'machine_taken'],
    ]);
    expect(store.tables.machines).toEqual(seen);
    await ledger([
      ['reports of the one', () => report('host-a'), 'taken'],
      ['the same boot with a new process', () => w.alive('edge-1', 'host-a'), 'for 30 s'],
      ['time', () => w.pass(29), undefined],
      ['the one', () => w.alive('edge-1', 'host-a'), 'for 30 s'],
      ['time', () => w.pass(29), undefined],
      ['the clone, however long it tries', () => w.alive('edge-1', 'host-b'), 'machine_taken'],
      ['the one falls silent', () => w.pass(1.9), undefined],
      ['its guard has not shut for certain', () => w.alive('edge-1', 'host-b'), 'machine_taken'],
      ['it has', () => w.pass(0.1), undefined],
      ['another boot has the machine', () => w.alive('edge-1', 'host-b'), 'for 30 s'],
      ['which the former one hears', () => w.alive('edge-1', 'host-a'), 'machine_taken'],
      ['and its reports, too', () => report('host-a'), 'machine_taken'],
    ]);
  });

  it('waits its whole fence for another boot after a start of the server, which may not know who was answered', async () => {
    await w.machine('edge-1', 'agent', 30);
    await w.alive('edge-1', 'host-a');
    w.clock.passSeconds(300);
    const restarted = new World(w.store, w.clock);
    await ledger([
      ['another boot', () => restarted.alive('edge-1', 'host-b'), 'machine_taken'],
      ['the same', () => restarted.alive('edge-1', 'host-a'), 'for 30 s'],
    ]);
  });

  it('is not believed to have applied what the log never had, and nothing of that is kept', async () => {
    const store = new MemoryStore();
    w = new World(store);
    await w.machine('edge-1', 'agent', 30);
    await w.alive('edge-1');
    const end = store.revision;
    const report = async (revision: number) => {
      const said = await w.execute({ kind: 'report', machine: 'edge-1', revision, leases: [], slices: [] });
      return said.ok ? 'taken' : said.error.code;
    };
    w.clock.passSeconds(5);
    const before = structuredClone(store.tables.machines);
    await ledger([
      ['a keepalive', () => w.alive('edge-1', 'boot-1', end + 1), 'revision_unknown'],
      ['far beyond', () => w.alive('edge-1', 'boot-1', 999_999), 'revision_unknown'],
      ['a report', () => report(end + 1), 'revision_unknown'],
    ]);
    // It was not heard either: its fence goes on.
    expect(store.tables.machines).toEqual(before);
    await ledger([
      ['a keepalive of all there is', () => w.alive('edge-1', 'boot-1', end), 'for 30 s'],
      ['a report', () => report(end), 'taken'],
    ]);
  });

  it('hears of its keepalive without a word in the log', async () => {
    await w.machine('edge-1');
    const before = w.events.length;
    await ledger([
      ['known', () => w.alive('edge-1'), 'for 30 s'],
      ['unknown', () => w.alive('edge-9'), 'machine_not_found'],
    ]);
    expect(w.events.length).toBe(before);
  });
});

const none = { tcp: null, udp: null, icmp: null };

describe('a holder', () => {
  it('is declared, and may change its user id but not its kind', async () => {
    await w.machine('edge-1');
    await w.machine('bare', 'none');
    await ledger([
      ['a proxy', () => w.holder('edge-1', 'web', 'proxy', 900), 'web 900'],
      ['moved to another user', () => w.holder('edge-1', 'web', 'proxy', 901), 'web 901'],
      ['without one the guard cannot know it', () => w.holder('edge-1', 'web', 'proxy', null), 'holder_needs_identity'],
      ['without a guard it need not', () => w.holder('bare', 'web', 'proxy', null), 'web null'],
      ['another kind', () => w.holder('edge-1', 'web', 'fish', null), 'holder_kind_fixed'],
      ['a fish', () => w.holder('edge-1', 'fish', 'fish'), 'fish null'],
      ['a terminator', () => w.holder('edge-1', 'terminator', 'terminator', 902), 'terminator 902'],
      ['which the guard has to know', () => w.holder('edge-1', 'other', 'terminator', null), 'holder_needs_identity'],
      ['on no machine', () => w.holder('edge-9', 'web'), 'machine_not_found'],
    ]);
    expect(w.events.filter(({ kind }) => kind === 'holder')).toHaveLength(5);
    await w.holder('edge-1', 'fish', 'fish');
    expect(w.events.filter(({ kind }) => kind === 'holder')).toHaveLength(5);
  });

  it('keeps what nothing is said of, and is refused to whoever saw another', async () => {
    await w.machine('edge-1');
    await w.holder('edge-1', 'web', 'proxy', 900);
    const limits = { portsMin: { tcp: 8, udp: 0, icmp: 0 }, portsMax: none, sessionsMax: 2 };
    const put = async (over: object) => {
      const said = await w.execute({ kind: 'putHolder', machine: 'edge-1', name: 'web', holderKind: 'proxy', ...over });
      return said.ok ? [said.value.uid, said.value.limits, said.value.revision] : said.error.code;
    };
    const events = w.events.length;
    await ledger([
      ['limits, and nothing of the user', () => put({ limits }), [900, limits, events + 1]],
      ['the user, and nothing of the limits', () => put({ uid: 901 }), [901, limits, events + 2]],
      ['nothing of either', () => put({}), [901, limits, events + 2]],
      ['seen before', () => put({ uid: 902, ifRevision: events + 1 }), 'precondition_failed'],
      ['no user, where the guard needs one', () => put({ uid: null }), 'holder_needs_identity'],
      ['no limits, as it was seen', () => put({ limits: null, ifRevision: events + 2 }), [901, null, events + 3]],
      ['one that must be there', () => put({ name: 'mail', uid: 903, ifRevision: null }), 'precondition_failed'],
      ['and is', () => put({ uid: 903, ifRevision: null }), [903, null, events + 4]],
    ]);
    expect((await w.store.reader.machine('edge-1'))?.limitedHolders).toBe(0);
  });

  it('has a user id that no other holder of its machine has, and that is not root', async () => {
    await w.machine('edge-1');
    await w.machine('edge-2');
    await w.machine('bare', 'none');
    await ledger([
      ['the first', () => w.holder('edge-1', 'web', 'proxy', 900), 'web 900'],
      ['the same user', () => w.holder('edge-1', 'mail', 'proxy', 900), 'holder_uid_taken'],
      ['on another machine', () => w.holder('edge-2', 'mail', 'proxy', 900), 'mail 900'],
      ['another user', () => w.holder('edge-1', 'mail', 'proxy', 901), 'mail 901'],
      ['moving onto the other', () => w.holder('edge-1', 'mail', 'proxy', 900), 'holder_uid_taken'],
      ['the same again', () => w.holder('edge-1', 'web', 'proxy', 900), 'web 900'],
      ['root', () => w.holder('edge-1', 'root', 'proxy', 0), 'holder_uid_root'],
      ['several without one, where nobody guards', () => w.holder('bare', 'web', 'proxy', null), 'web null'],
      ['the second of them', () => w.holder('bare', 'mail', 'proxy', null), 'mail null'],
      ['an agent may come: the first', () => w.holder('bare', 'web', 'proxy', 900), 'web 900'],
      ['and the same user', () => w.holder('bare', 'mail', 'proxy', 900), 'holder_uid_taken'],
      ['and root', () => w.holder('bare', 'mail', 'proxy', 0), 'holder_uid_root'],
    ]);
  });

  it('has a cgroup in place of a user id that no other holder of its machine is in, above or below', async () => {
    await w.machine('edge-1');
    await w.machine('edge-2');
    await w.machine('bare', 'none');
    const put = async (machine: string, name: string, over: object) => {
      const said = await w.execute({ kind: 'putHolder', machine, name, holderKind: 'proxy', ...over });
      return said.ok ? [said.value.uid, said.value.cgroup] : said.error.code;
    };
    const web = 'system.slice/web.service';
    await ledger([
      ['the first', () => put('edge-1', 'web', { cgroup: web }), [null, web]],
      ['the same', () => put('edge-1', 'mail', { cgroup: web }), 'holder_cgroup_taken'],
      ['one above', () => put('edge-1', 'mail', { cgroup: 'system.slice' }), 'holder_cgroup_taken'],
      ['one below', () => put('edge-1', 'mail', { cgroup: `${web}/worker` }), 'holder_cgroup_taken'],
      ['one with a name that only begins alike', () => put('edge-1', 'mail', { cgroup: `${web}2` }), [null, `${web}2`]],
      ['on another machine', () => put('edge-2', 'mail', { cgroup: web }), [null, web]],
      ['a user id takes its place', () => put('edge-1', 'web', { uid: 900 }), [900, null]],
      ['so that another has it', () => put('edge-1', 'mail', { cgroup: web }), [null, web]],
      ['and gives it back', () => put('edge-1', 'mail', { cgroup: 'mail.slice' }), [null, 'mail.slice']],
      ['it takes the place of the user id', () => put('edge-1', 'web', { cgroup: `${web}/a` }), [null, `${web}/a`]],
      ['it may move up', () => put('edge-1', 'web', { cgroup: web }), [null, web]],
      ['what is not said stays', () => put('edge-1', 'web', {}), [null, web]],
      ['none at all', () => put('edge-1', 'web', { cgroup: null }), 'holder_needs_identity'],
      ['none, where nobody guards', () => put('bare', 'web', { cgroup: null }), [null, null]],
      ['one, and an agent may come', () => put('bare', 'mail', { cgroup: web }), [null, web]],
      ['so there too', () => put('bare', 'web', { cgroup: web }), 'holder_cgroup_taken'],
    ]);
    // Asked in one turn, so decided in one batch: what the first takes is taken for the second.
    const said = await Promise.all([
      put('edge-1', 'news', { cgroup: 'news.slice' }),
      put('edge-1', 'feed', { cgroup: 'news.slice/feed.service' }),
      put('edge-1', 'news', { uid: 905 }),
      put('edge-1', 'feed', { cgroup: 'news.slice/feed.service' }),
    ]);
    expect(said).toEqual([[null, 'news.slice'], 'holder_cgroup_taken', [905, null], [null, 'news.slice/feed.service']]);
  });

  it('gets a user id that another gave up before it, also in one batch, and never one that is being taken', async () => {
    await w.machine('edge-1');
    await w.holder('edge-1', 'web', 'proxy', 900);
    await w.holder('edge-1', 'mail', 'proxy', 901);
    // Asked in one turn, so decided in one batch, in this order.
    const said = await Promise.all([
      w.holder('edge-1', 'news', 'proxy', 900),
      w.holder('edge-1', 'web', 'proxy', 902),
      w.holder('edge-1', 'mail', 'proxy', 900),
      w.holder('edge-1', 'web', 'proxy', 901),
      w.holder('edge-1', 'feed', 'proxy', 903),
      w.holder('edge-1', 'news', 'proxy', 903),
    ]);
    expect(said).toEqual(['holder_uid_taken', 'web 902', 'mail 900', 'web 901', 'feed 903', 'holder_uid_taken']);
  });
});

describe('an access token', () => {
  const token = (rest: object) =>
    ({ kind: 'createToken', name: 'ci', role: 'viewer', machine: null, holder: null, hash: 'abc', ...rest }) as const;

  it('is made for what is there, and revoked once and for all', async () => {
    await w.machine('edge-1');
    await w.holder('edge-1', 'web');
    const created = await w.execute(token({ hash: 'h-1' }));
    if (!created.ok) throw new Error('no token');
    const { id } = created.value;
    const show = (outcome: Awaited<ReturnType<typeof w.execute<'createToken'>>>) =>
      outcome.ok
        ? `${outcome.value.role} ${outcome.value.revokedAt === null ? 'valid' : 'revoked'}`
        : outcome.error.code;
    await ledger([
      [
        'for a machine',
        async () => show(await w.execute(token({ role: 'agent', machine: 'edge-1', hash: 'h-2' }))),
        'agent valid',
      ],
      [
        'for no machine',
        async () => show(await w.execute(token({ role: 'agent', machine: 'edge-9', hash: 'h-3' }))),
        'machine_not_found',
      ],
      [
        'for a holder',
        async () => show(await w.execute(token({ role: 'holder', machine: 'edge-1', holder: 'web', hash: 'h-4' }))),
        'holder valid',
      ],
      [
        'for no holder',
        async () => show(await w.execute(token({ role: 'holder', machine: 'edge-1', holder: 'x', hash: 'h-5' }))),
        'holder_not_found',
      ],
      ['revoke', async () => show(await w.execute({ kind: 'revokeToken', id })), 'viewer revoked'],
      ['again', async () => show(await w.execute({ kind: 'revokeToken', id })), 'viewer revoked'],
      ['an unknown one', async () => show(await w.execute({ kind: 'revokeToken', id: 999 })), 'token_not_found'],
    ]);
    const found = await w.store.reader.accessToken('h-1');
    expect(found).toMatchObject({ id, hash: 'h-1' });
    expect(found?.revokedAt).toBeGreaterThan(found?.createdAt ?? Infinity);
  });

  it('is told of in the log without its hash, and to no machine', async () => {
    await w.machine('edge-1');
    await w.execute(token({ role: 'agent', machine: 'edge-1', hash: 'secret-hash' }));
    expect(w.events.at(-1)).toMatchObject({ kind: 'token', token: { role: 'agent', machine: 'edge-1' } });
    expect(JSON.stringify(w.events)).not.toContain('secret-hash');
    expect((await w.store.reader.eventsAfter(0, 'edge-1', 9)).map(({ kind }) => kind)).toEqual(['machine']);
    expect((await w.store.reader.eventsAfter(0, null, 9)).map(({ kind }) => kind)).toEqual(['machine', 'token']);
  });
});

describe('log time', () => {
  it('rises with every event, however fast they come', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, index) => w.machine(`m-${index}`)));
    const times = w.events.map(({ at }) => at);
    expect(times).toEqual(Array.from({ length: 50 }, (_, index) => w.clock.us + index));
    w.clock.passSeconds(1);
    await w.machine('later');
    expect(w.events.at(-1)?.at).toBe((times[0] ?? 0) + second);
  });
});
