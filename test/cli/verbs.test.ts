import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { apiErrors } from '../../src/api/errors.ts';
import { leaseErrors } from '../../src/api/lease-errors.ts';
import { exitCodeOf } from '../../src/cli/connection.ts';
import { FisheryError } from '../../src/sdk/index.ts';
import { Lease, LeaseList } from '../../src/wire/leases.ts';
import { Holder, Machine } from '../../src/wire/machines.ts';
import { Pool } from '../../src/wire/pools.ts';
import { Session } from '../../src/wire/sessions.ts';
import { SliceList } from '../../src/wire/slices.ts';
import { fakeTerminal, type FakeTerminal } from '../support/fake-terminal.ts';
import { RealServer } from '../support/real-server.ts';
import { runFishery, type Ran } from '../support/run-fishery.ts';
import { hangUp, json, problem, ScriptedServer, silence } from '../support/scripted-server.ts';

let server: RealServer;
let folder: string;
beforeAll(async () => {
  server = await RealServer.start();
  folder = mkdtempSync(join(tmpdir(), 'fishery-verbs-'));
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

type How = Readonly<{ terminal?: FakeTerminal; env?: Record<string, string>; url?: string }>;

/** `fishery` with the words of this line, as an operator. */
const fishery = (
  line: string | readonly string[],
  { terminal = fakeTerminal(), env, url = server.url }: How = {},
): Promise<Ran> =>
  runFishery(typeof line === 'string' ? line.split(' ').filter(Boolean) : line, {
    env: env ?? { FISHERY_SERVER: url, FISHERY_TOKEN: server.secret, HOME: folder },
    terminal,
  });

/** The same, when it must succeed and say nothing beside its answer. */
async function must(line: string): Promise<string> {
  const { code, out, err } = await fishery(line);
  expect({ line, code, err }).toEqual({ line, code: 0, err: '' });
  return out;
}
const answered = async <T extends z.ZodType>(schema: T, line: string): Promise<z.output<T>> =>
  schema.parse(JSON.parse(await must(`${line} --json`)));

describe('the verbs of an operator', () => {
  it('take a fresh server to a lease, and back', async () => {
    const pool = await answered(
      Pool,
      'pools create demo --prefix 198.51.100.0/28 --prefix 2001:db8::/48 --label site=fra1 --label country=de ' +
        '--usable-ports 2048-65535 --cooldown-s tcp=0,udp=0,icmp=0 --slice-ports 1024',
    );
    expect(pool).toMatchObject({
      labels: { site: 'fra1', country: 'de' },
      usable_ports: { first: 2_048, last: 65_535 },
      cooldown_s: { tcp: 0, udp: 0, icmp: 0 },
      slice_ports: 1_024,
    });
    await answered(Machine, 'machines create edge-1 --enforcement none --fence-s 60');
    await must('holders put edge-1 web --kind proxy --uid 1000');
    await must(
      'holders put edge-1 web --kind proxy --uid 1000 --ports-max tcp=1024,udp=64 --ports-min tcp=8 --sessions-max 2',
    );
    expect(await must('holders list edge-1')).toMatch(/^web .*tcp=8 +tcp=1024,udp=64 +2 /m);
    expect((await fishery('holders put edge-1 web --kind proxy --uid 1000 --ports-max tcp')).code).toBe(2);
    const limited = await answered(Holder, 'holders put edge-1 web --kind proxy --uid 1001');
    expect(limited).toMatchObject({ uid: 1_001, limits: { ports_max: { tcp: 1_024, udp: 64 }, sessions_max: 2 } });
    const stale = `holders put edge-1 web --kind proxy --unlimited --if-revision ${limited.revision - 1}`;
    expect(await fishery(stale)).toMatchObject({
      code: 4,
      err: expect.stringContaining('precondition_failed') as string,
    });
    const free = `holders put edge-1 web --kind proxy --unlimited --if-revision ${limited.revision}`;
    expect(await answered(Holder, free)).toMatchObject({ uid: 1_001, limits: null });
    await must('holders put edge-1 mail --kind proxy --uid 1000');
    const news = await answered(Holder, 'holders put edge-1 news --kind proxy --cgroup system.slice/news.service');
    expect(news).toMatchObject({ uid: null, cgroup: 'system.slice/news.service' });
    expect((await fishery('holders delete edge-1 mail')).err).toContain(
      'Delete holder mail of machine edge-1, with its tokens?',
    );
    expect(await fishery('holders delete edge-1 mail --yes --if-revision 1')).toMatchObject({ code: 4 });
    await must('holders delete edge-1 mail --yes');
    expect(await must('holders list edge-1 --ids')).toBe('news\nweb\n');
    const { slices } = await answered(SliceList, 'slices assign demo edge-1 --at 198.51.100.3:4096');
    expect(slices).toMatchObject([{ address: '198.51.100.3', ports: { first: 4_096, last: 5_119 } }]);
    const slice = slices[0]?.id ?? '';
    const session = await answered(Session, 'sessions open edge-1 web --ttl-s 600');
    expect(session).toMatchObject({ machine: 'edge-1', holder: 'web', ttl_s: 600 });
    await must(`sessions keepalive ${session.id}`);

    const granted = await must(`leases grant ${session.id} --ports 100 --at 198.51.100.3:4224`);
    expect(granted).toMatch(
      /^LEASE +HOLDER .*\nlease-\d+ +web +edge-1 +198\.51\.100\.3 +tcp +4224-4351 +exclusive +active/,
    );
    expect(await must('leases list --machine edge-1 --state active')).toBe(granted);
    const lease = (await must('leases list --ids')).trim();
    expect(await must('attribution who 198.51.100.3:4300/tcp')).toMatch(/^ {2}lease +lease-\d+$|certainty +exact/m);
    expect((await fishery('attribution who 198.51.100.3:4300/udp')).code).toBe(3);
    for (const what of ['--place 198.51.100.3:4300', '--place 198.51.100.3:4300/tcp', '--machine edge-1 --holder web'])
      expect((await must(`attribution history --since 1h --ids ${what}`)).trim()).toBe(lease);
    expect((await fishery('attribution history --place nowhere')).code).toBe(2);
    expect((await fishery('attribution history --machine edge-1')).code).not.toBe(0);
    const list = join(folder, 'list.csv');
    writeFileSync(list, `ref,address,protocol,port,at\na,198.51.100.3,tcp,4300,${new Date().toISOString()}\n`);
    expect(await must(`attribution bulk --file ${list}`)).toMatch(
      new RegExp(`^line,ref,.*\n2,a,198\\.51\\.100\\.3,tcp,4300,.*,edge-1,.*,exact,web,${lease},`),
    );
    expect(await fishery('attribution bulk --file /no/such/list')).toMatchObject({ code: 2, out: '' });
    expect(await must(`slices extents ${slice}`)).toMatch(
      new RegExp(`^tcp +4224-4351 +exclusive +${lease} +- +-$`, 'm'),
    );

    const wouldBe = await must('explain --machine edge-1 --holder web --ports 128 --count 2 --select country=de');
    expect(wouldBe).toMatch(/^would be granted to web on edge-1:\nADDRESS .*(?:\n198\.51\.100\.3 .*){2}\n\nPOOL /);
    const never = await fishery(`explain --session ${session.id} --ports 1024`);
    expect([never.code, never.out]).toEqual([4, expect.stringMatching(/: no_ports\nno free block of 1024 tcp ports/)]);
    const elsewhere = await fishery('explain --machine edge-1 --ports 8 --address 198.51.100.250');
    expect([elsewhere.code, elsewhere.out]).toEqual([
      4,
      expect.stringMatching(/: no_slices\n.* on 198\.51\.100\.250 .*\n(?:.*\n)+.* other address$/m),
    ]);
    const several = await fishery([
      ...['explain', '--session', session.id, '--placement', 'spread', '--select', 'country=de'],
      ...['--claim', 'ports=8,count=2', '--claim', 'ports=1024', '--claim', 'protocol=udp,select={country in (at,ch)}'],
    ]);
    expect(several.code).toBe(4);
    expect(several.out).toMatch(/^would not be granted to web on edge-1 \(active\): no_ports, for claim 2 of 3\n/);
    expect(several.out).toMatch(
      /^ +1 +tcp +8 +2 +could be granted.*\n +2 +tcp +1024 +1 +no_ports +no free block.*\n +3 +udp .*no_/m,
    );
    const line = `leases grant ${session.id} --claim ports=8,count=2 --claim protocol=udp --dry-run --json`;
    const two = LeaseList.parse(JSON.parse((await fishery(line)).out));
    expect(two.leases.map(({ protocol, ports }) => [protocol, ports.last - ports.first + 1])).toEqual([
      ['tcp', 8],
      ['tcp', 8],
      ['udp', 1],
    ]);
    for (const [words, why] of [
      ['weight=3', /"weight=3": expected parts like ports=128, of protocol, ports, count, .*each once; got "weight=3"/],
      ['at=here', /"at=here": at: "here" is no address and port/],
      ['count=0', /"count=0": count: Too small/],
    ] as const)
      expect(await fishery(`leases grant ${session.id} --claim ${words}`)).toMatchObject({
        code: 2,
        err: expect.stringMatching(why) as string,
      });
    const reserved = await must(
      'leases reserve edge-1 web --unit web.service --count 2 --placement same_address --ids',
    );
    expect(await must('leases list --reserved true --ids')).toBe(reserved);
    for (const id of reserved.trim().split('\n')) await must(`leases revoke ${id} --yes`);

    const goesOn = await answered(Lease, `leases revoke ${lease} --deadline-s 600 --yes`);
    expect(goesOn).toMatchObject({ id: lease, ending: null });
    expect(await must('revocations list --state waiting')).toContain(lease);
    expect(await answered(Lease, `leases revoke ${lease} --reason abuse --yes`)).toMatchObject({ reason: 'abuse' });
    await must(`sessions end ${session.id} --yes`);
    await must(`slices drain ${slice} --yes`);
    expect(await must('machines cordon edge-1')).toMatch(/^state +cordoned$/m);
    expect(await must('machines uncordon edge-1')).toMatch(/^state +active$/m);
  });

  it('tell in which epoch the table is, and confirm it', async () => {
    expect(await must('epoch get')).toMatch(/^number +1\n[^]*^state +confirmed$/m);
    expect(await must('epoch confirm --epoch 1 --yes')).toMatch(/^state +confirmed$/m);
    expect((await fishery('epoch confirm --epoch 2 --yes')).code).toBe(4);
  });

  it('show one thing with all that is known of it', async () => {
    await must('pools create shown --prefix 203.0.113.0/30 --label site=fra1');
    expect((await must('pools get shown')).split('\n')).toEqual(
      expect.arrayContaining([
        'id                  shown',
        'labels              site=fra1',
        'usable_ports        1024-65535',
        'cooldown_s          tcp=120, udp=120, icmp=120',
      ]),
    );
  });

  it('add to what a pool and a machine are, and take away from it', async () => {
    await must('pools create changed --prefix 192.0.2.0/28 --label site=fra1 --label tier=a --cooldown-s 60');
    const changed = await answered(
      Pool,
      'pools update changed --label tier=b --unlabel site --add-prefix 192.0.2.64/28 --carve-out 192.0.2.1 ' +
        '--carve-out 192.0.2.64/30@5000-5099 --cooldown-s udp=30',
    );
    expect(changed).toMatchObject({
      labels: { tier: 'b' },
      prefixes: ['192.0.2.0/28', '192.0.2.64/28'],
      carve_outs: [
        { prefix: '192.0.2.1/32', ports: null },
        { prefix: '192.0.2.64/30', ports: { first: 5_000, last: 5_099 } },
      ],
      cooldown_s: { tcp: 60, udp: 30, icmp: 60 },
    });
    const back = await answered(
      Pool,
      'pools update changed --remove-prefix 192.0.2.64/28 --remove-carve-out 192.0.2.64/30@5000-5099',
    );
    expect(back).toMatchObject({
      labels: { tier: 'b' },
      prefixes: ['192.0.2.0/28'],
      carve_outs: [{ prefix: '192.0.2.1/32', ports: null }],
    });
    expect(await must('pools delete changed --yes')).toBe('');
    await must('machines create labelled --enforcement none --label a=1 --label b=2');
    expect((await answered(Machine, 'machines update labelled --unlabel a --label c=3')).labels).toEqual({
      b: '2',
      c: '3',
    });
  });

  it('give a machine the slices that it wants, take them back, and let it go', async () => {
    await must(
      'pools create wanted --prefix 192.0.2.8/31 --slice-ports 1024 --label tier=gold --cooldown-s tcp=0,udp=0,icmp=0',
    );
    const wants = '--want wanted/4=2 --want {tier=gold}=1';
    const machine = await answered(Machine, `machines create wisher --enforcement none ${wants}`);
    expect(machine.wants).toMatchObject([
      { pool: 'wanted', family: 4, slices: 2 },
      { select: 'tier=gold', slices: 1 },
    ]);
    const slices = async () => (await answered(z.array(z.unknown()), 'slices list --machine wisher')).length;
    await expect.poll(slices).toBe(2);
    expect((await fishery('machines update wisher --want nonsense')).code).toBe(2);
    const drained = await answered(Machine, 'machines drain wisher --deadline-s 1 --yes');
    expect(drained.state).toBe('draining');
    await expect.poll(slices).toBe(0);
    const own = await answered(Machine, 'machines create broker --want wanted=1@machine');
    expect(own.wants).toMatchObject([{ pool: 'wanted', allocator: 'machine', slices: 1 }]);
    expect(await answered(SliceList, 'slices assign demo broker --allocator machine')).toMatchObject({
      slices: [{ allocator: 'machine' }],
    });
    expect((await fishery('slices assign demo wisher --allocator machine')).code).toBe(4);
    expect((await answered(Machine, 'machines lost wisher --yes')).state).toBe('lost');
    expect((await answered(Machine, 'machines update wisher --want-nothing')).wants).toEqual([]);
    await must('machines delete wisher --yes');
    expect((await fishery('machines get wisher')).code).toBe(3);
  });

  it('declare routers, the pools that wait for them, and the way to machines', async () => {
    await must('routers put north --label site=fra1');
    await must('pools create waiting --prefix 203.0.113.16/30 --routers 1 --router north');
    await must('machines create far --enforcement none --mark 257 --next-hop 192.0.2.11');
    const { slices } = await answered(SliceList, 'slices assign waiting far');
    expect(slices[0]?.state).toBe('assigning');
    expect(await must('slices list --route adding --ids')).toBe(`${slices[0]?.id ?? ''}\n`);
    expect(await must('slices list --route adding')).toMatch(/WAITS FOR\n.* north \(\d+ s\)$/m);
    expect(await must(`slices get ${slices[0]?.id ?? ''}`)).toMatch(/north/);
    expect((await answered(Pool, 'pools update waiting --routers none')).routers).toEqual({ policy: 'none' });
    expect(await answered(Machine, 'machines update far --mark 258')).toMatchObject({
      mark: 258,
      next_hops: ['192.0.2.11'],
    });
    expect(await must('routes list --pool waiting')).toMatch(
      /^ADDRESS .*\n203\.0\.113\.16 +\d+-\d+ +far +258 +192\.0\.2\.11 +waiting/,
    );
    expect(await must('routes csv --machine far')).toMatch(/^address,first_port,.*\r\n203\.0\.113\.16,/);
    expect(await must('routes nft --machine far')).toMatch(/^add element inet fishery_routes mark4_2048 /m);
    expect(await must('routers list')).toMatch(/^ROUTER .*\nnorth +0 .*site=fra1/);
    expect(await must('routers delete north --yes')).toBe('');
  });

  it('show what would be, and change nothing', async () => {
    const dry = await fishery('pools create dry --prefix 192.0.2.0/29 --dry-run');
    expect(dry).toMatchObject({ code: 0, err: 'fishery pools create: this is what would be: nothing was changed\n' });
    expect(dry.out).toMatch(/^id +dry$/m);
    expect((await fishery('pools get dry')).code).toBe(3);
    await must('pools create dry --prefix 192.0.2.0/29');
    expect((await fishery('pools delete dry --dry-run')).code).toBe(0);
    await must('pools get dry');
  });

  it('change what was seen, and nothing newer', async () => {
    const seen = await answered(Machine, 'machines create seen --enforcement none');
    await must('machines cordon seen');
    expect(await fishery(`machines uncordon seen --if-revision ${seen.revision}`)).toMatchObject({
      code: 4,
      err: expect.stringContaining('(precondition_failed, ') as string,
    });
    expect((await answered(Machine, 'machines get seen')).state).toBe('cordoned');
  });

  it('make, limit, rotate and revoke tokens', async () => {
    const out = await must('tokens create --name t --role agent --machine edge-1');
    expect(out).toMatch(/^secret +fsh_\S+$/m);
    const id = /^ {2}id +(\S+)$/m.exec(out)?.[1] ?? '';
    expect(await must('tokens list')).toMatch(new RegExp(`^${id} +t +agent +edge-1 +- `, 'm'));
    expect(await must(`tokens update ${id} --name renamed --requests-per-s 5 --ttl-s 3600`)).toMatch(
      /^limits +requests_per_s=5, requests_burst=-/m,
    );
    expect(await must(`tokens update ${id} --never-expires`)).toMatch(/^expires_at +-$/m);
    expect(await must(`tokens rotate ${id} --grace-s 0`)).toMatch(/^secret +fsh_\S+$/m);
    expect(await must(`tokens get ${id}`)).toMatch(/^name +renamed$/m);
    expect(await must('tokens self')).toMatch(/^role +operator$/m);
    expect(await must(`tokens revoke ${id} --yes`)).toMatch(/^revoked_at +\d{4}-/m);
  });
});

describe('a list', () => {
  beforeAll(async () => {
    for (const id of ['l1', 'l2', 'l3', 'l4', 'l5']) await server.client.machines.create({ id, enforcement: 'none' });
  });

  it('is one JSON array, lines of JSON, or identifiers', async () => {
    const all = (await server.client.machines.list()).items;
    expect(JSON.parse(await must('machines list --json'))).toEqual(all);
    const lines = (await must('machines list --jsonl')).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(all);
    expect(await must('machines list --ids')).toBe(all.map(({ id }) => `${id}\n`).join(''));
    expect((await must('leases list --machine l1 --json')).trim()).toBe('[]');
    expect(await fishery('machines list --json --ids')).toEqual({
      code: 2,
      out: '',
      err: 'fishery machines list: --json and --ids exclude each other\n',
    });
  });

  it('stops at the limit, and says that there is more', async () => {
    const some = await fishery('machines list --ids --limit 2');
    expect(some.out.trim().split('\n')).toHaveLength(2);
    expect(some.err).toBe('fishery machines list: there are more than 2: --limit or --all shows them\n');
    expect((await must('machines list --all --ids')).trim().split('\n').length).toBeGreaterThan(4);
  });

  it('reads page after page', async () => {
    await using paged = await ScriptedServer.start((request, response) => {
      const page = Number(request.query['cursor'] ?? 0);
      json({ items: [{ id: `m${page}` }], next: page < 2 ? String(page + 1) : null })(request, response);
    });
    expect(await fishery('machines list --ids', { url: paged.url })).toEqual({ code: 0, out: 'm0\nm1\nm2\n', err: '' });
    expect(paged.seen.map(({ query }) => query)).toEqual([
      { limit: '1000' },
      { limit: '999', cursor: '1' },
      { limit: '998', cursor: '2' },
    ]);
  });

  it('is silent about nothing for a program, and says so on a screen', async () => {
    expect(await fishery('leases list --machine l1')).toEqual({ code: 0, out: '', err: '' });
    const terminal = fakeTerminal({ isScreen: true });
    expect((await fishery('leases list --machine l1', { terminal })).err).toBe('fishery leases list: nothing found\n');
  });

  it('keeps what others wrote from steering the terminal', async () => {
    const [machine] = (await server.client.machines.list({ limit: 1 })).items;
    const items = [{ ...machine, labels: { site: '\u001b[2J\nmore\u202e' } }];
    await using hostile = await ScriptedServer.start(json({ items, next: null }));
    const { out } = await fishery('machines list', { url: hostile.url });
    expect(out.split('\n')).toHaveLength(3);
    expect(out).toContain('site=\\u001b[2J\\u000amore\\u202e');
  });
});

describe('what cannot be undone', () => {
  const line = 'tokens revoke token-999999';

  it('is not done when nobody is there to say yes', async () => {
    expect(await fishery(line)).toEqual({
      code: 2,
      out: '',
      err: 'fishery tokens revoke: Revoke token-999999? Nobody is there to answer, and nothing was done: pass --yes\n',
    });
  });

  it.each(['', 'n', 'yesterday'])('is not done at "%s"', async (answer) => {
    const terminal = fakeTerminal({ answers: [answer] });
    expect(await fishery(line, { terminal })).toMatchObject({
      code: 1,
      err: 'fishery tokens revoke: nothing was done\n',
    });
    expect(terminal.asked).toEqual(['Revoke token-999999? [y/N] ']);
  });

  it.each(['y', 'YES '])('is done at "%s"', async (answer) => {
    expect((await fishery(line, { terminal: fakeTerminal({ answers: [answer] }) })).code).toBe(3);
  });
});

describe('the exit code', () => {
  it.each([
    ['not found', 'pools get nowhere', 3, /^fishery pools get: .*\(pool_not_found, request \S+\)\n$/],
    ['refused', 'pools create demo --prefix 192.0.2.0/24', 4, /\(pool_exists, /],
    [
      'wrong in the eyes of the server',
      'pools get Not_A_Name',
      2,
      /: path\.id: must match .* \(validation_failed, request \S+\)\n$/,
    ],
    ['a flag that makes no sense', 'pools create p --prefix 192.0.2.1/24', 2, /--prefix.* has host bits set/],
    ['a flag that is required', 'pools create p', 2, /^fishery pools create: --prefix is required\n$/],
    ['an argument that is required', 'pools get', 2, /missing required argument 'pool'/],
  ])('tells what is %s', async (_what, line, code, expected) => {
    const ran = await fishery(line);
    expect(ran).toMatchObject({ code, out: '' });
    expect(ran.err).toMatch(expected);
  });

  it('tells that the token is not known, not allowed, or not there', async () => {
    const env = { FISHERY_SERVER: server.url, HOME: folder };
    expect((await fishery('pools list', { env: { ...env, FISHERY_TOKEN: 'nonsense' } })).code).toBe(5);
    const { secret } = await server.client.tokens.create({ name: 'v', role: 'viewer' });
    const viewer = { ...env, FISHERY_TOKEN: secret };
    expect((await fishery('pools list', { env: viewer })).code).toBe(0);
    expect(await fishery('tokens list', { env: viewer })).toMatchObject({ code: 5, out: '' });
    expect(await fishery('pools list', { env })).toEqual({
      code: 2,
      out: '',
      err:
        'fishery pools list: no access token: set --token-file, FISHERY_TOKEN_FILE, FISHERY_TOKEN or token_file in a ' +
        'profile\n',
    });
  });

  it('tells a server that is away from one that is slow, and from one that is busy', async () => {
    const played = await ScriptedServer.start(hangUp);
    const { url } = played;
    const line = (more = '') => fishery(`pools list${more}`, { url });
    expect((await line()).code).toBe(6);
    played.answer = silence;
    expect(await line(' --timeout-s 0.2')).toMatchObject({
      code: 7,
      err: expect.stringContaining('(timeout)') as string,
    });
    played.answer = problem(503, 'overloaded', { retry_after_s: 60 });
    expect((await line()).code).toBe(6);
    await played[Symbol.asyncDispose]();
    expect((await line()).err).toMatch(/ECONNREFUSED.*\(unreachable\)\n$/);
  });

  it('tells a refusal by the state of things from a server that cannot serve, whatever status both have', async () => {
    const codesOf = (kinds: Readonly<Record<string, { status: number }>>) =>
      Object.keys(kinds).filter((code) => kinds[code]?.status === 503);
    const exitOf = (code: string) => exitCodeOf(new FisheryError('refused', { code, status: 503, retryable: true }));
    const refused = codesOf(leaseErrors);
    expect(refused).toEqual(expect.arrayContaining(['no_ports', 'ports_kept_for_others', 'no_common_address']));
    for (const code of refused) expect([code, exitOf(code)]).toEqual([code, 4]);
    for (const code of [...codesOf(apiErrors), 'unreadable_answer']) expect([code, exitOf(code)]).toEqual([code, 6]);
    await using played = await ScriptedServer.start(problem(503, 'no_ports', { retry_after_s: 60 }));
    expect(await fishery('leases grant session-6 --ports 4', { url: played.url })).toMatchObject({ code: 4, out: '' });
  });
});

describe('the profile', () => {
  const config = (text: string) => {
    const home = mkdtempSync(join(folder, 'home-'));
    mkdirSync(join(home, '.config', 'fishery'), { recursive: true });
    writeFileSync(join(home, 'secret'), `${server.secret}\n`);
    writeFileSync(join(home, '.config', 'fishery', 'config.yaml'), text.replaceAll('HOME', home));
    return { HOME: home };
  };
  const both = () => `profile: lab
profiles:
  lab: { server: '${server.url}', token_file: HOME/secret }
  gone: { server: 'http://127.0.0.1:65535', token_file: HOME/secret }
server: { port: 7480 }
`;

  it('is the one that the file prefers, unless another is named', async () => {
    const env = config(both());
    expect((await fishery('pools list', { env })).code).toBe(0);
    expect((await fishery('pools list --profile gone', { env })).code).toBe(6);
    expect((await fishery('pools list', { env: { ...env, FISHERY_PROFILE: 'gone' } })).code).toBe(6);
    expect((await fishery(`pools list --profile gone --server ${server.url}`, { env })).code).toBe(0);
  });

  it('must be one that there is', async () => {
    const env = config(both());
    expect((await fishery('pools list --profile prod', { env })).err).toMatch(
      /config\.yaml: has no profile "prod", expected one of: lab, gone\n$/,
    );
    expect((await fishery('pools list --profile prod')).err).toMatch(
      /^fishery pools list: profile "prod": there is no file .*config\.yaml\n$/,
    );
    expect((await fishery('pools list', { env: config('profiles: { lab: 5 }\nprofile: lab') })).err).toMatch(
      /expected "profiles\.lab" to be a mapping of settings/,
    );
    expect((await fishery('pools list', { env: config('profiles: { lab: { sever: x } }\nprofile: lab') })).err).toMatch(
      /profiles\.lab\.sever in .*: is not a setting, expected one of: server, token_file, ca_file, cert_file, key_file, timeout_s\n/,
    );
  });
});
