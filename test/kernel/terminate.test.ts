import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentLab, eventually, type AgentProcess } from './support/agent-lab.ts';
import { TcpPeer, type PeerSocket } from './support/tcp-peer.ts';
import { asUnit } from './support/units.ts';

const address4 = '198.51.100.10';
const address6 = '2001:db8:a::10';
const origin4 = '203.0.113.1';
const origin6 = '2001:db8:f::1';
const uid = 2_107;
/** Fish's port of the same host: the same client's packets go there. */
const packetPort = 8_080;

const settings = {
  client_interfaces: ['hc'],
  keep: false,
  fish: {
    client_prefixes: ['100.64.0.0/10'],
    claims: [{ protocol: 'tcp', mode: 'shared', ports: 128, family: 4 }],
    session_ttl_s: 600,
  },
  terminate: {
    claims: [
      { protocol: 'tcp', mode: 'shared', ports: 128, family: 4 },
      { protocol: 'tcp', mode: 'shared', ports: 4, family: 6 },
    ],
    session_ttl_s: 600,
    paths: [
      { ports: [packetPort], path: 'packet' },
      { destinations: [`${origin4}/32`, `${origin6}/128`], path: 'terminate' },
    ],
    otherwise: 'packet',
    connect_timeout_s: 3,
    on_unreachable: 'close',
    connections_per_client_max: 6,
  },
};

let lab: AgentLab;
let agent: AgentProcess;
let config: string;
let before: Readonly<Record<string, string>>;
let service: ChildProcess;
let client: TcpPeer;
let origin: TcpPeer;
/** First ports of the terminator's blocks. */
let block4: number;
let block6: number;

beforeAll(async () => {
  lab = await AgentLab.open('term');
  for (const [ns, command] of [
    [lab.host, 'addr add 2001:db8:c::1/64 dev hc nodad'],
    [lab.clientSide, 'addr add 2001:db8:c::2/64 dev c0 nodad'],
    [lab.clientSide, '-6 route add default via 2001:db8:c::1'],
  ] as const)
    lab.shell(ns, `ip ${command}`);
  config = await lab.setUp({
    settings,
    slices: [
      [address4, 8_192],
      [address6, 8_192],
    ],
  });
  await lab.client.machines.putHolder('edge', 'terminator', { kind: 'terminator', uid });
  before = lab.fingerprint();
  service = lab.spawn(lab.host, asUnit('fishery-terminator', 'ExecStart'));
  await eventually(
    () => (lab.shell(lab.host, 'ss -Htln sport = 7490').length > 0 ? true : undefined),
    () => 'the terminator does not listen',
  );
  agent = lab.startAgent(config);
  [client, origin] = await Promise.all([TcpPeer.start(lab.clientSide), TcpPeer.start(lab.origin)]);
  for (const on of [origin4, origin6]) await origin.listen(on, 80);
  await origin.listen(origin4, packetPort);
  // Says who asks, and what it was sent.
  const web = `require('node:http').createServer(async (q, s) => {
    const hash = require('node:crypto').createHash('sha256');
    for await (const piece of q) hash.update(piece);
    s.end(JSON.stringify({ from: q.socket.remoteAddress, body: hash.digest('hex') }));
  })`;
  for (const on of [origin4, origin6]) lab.spawn(lab.origin, [process.execPath, '-e', `${web}.listen(82, '${on}')`]);
  await origin.listen(origin4, 81, false);
  await agent.until(
    ({ terminator, lease_counts }) => lease_counts['up'] === 3 && terminator?.stats?.leases === 2,
    'the terminator has not its leases',
  );
  const { items } = await lab.client.leases.list({ machine: 'edge', holder: 'terminator' });
  const firstOf = (address: string) => items.find((lease) => lease.address === address)?.ports.first ?? NaN;
  [block4, block6] = [firstOf(address4), firstOf(address6)];
});
afterAll(() => lab.close());

const stats = async () => {
  const { terminator } = await agent.status();
  if (!terminator?.stats) throw new Error('the terminator says nothing');
  return terminator.stats;
};

/** A connection through the terminator: the client's end and the origin's. */
async function connected(to = origin4, port = 80): Promise<readonly [PeerSocket, PeerSocket]> {
  const [mine, theirs] = [await client.connect(to, port), await origin.next()];
  await mine.until((state) => state.connected, 'no connection');
  return [mine, theirs];
}

/** Who had this port of the terminator then, as the server is told. */
const knownAt = (address: string, remote_address: string, port: number, at: string) =>
  eventually(
    async () => {
      const remote = { remote_address, remote_port: 80 };
      const answer = await lab.client.attribution({ address, protocol: 'tcp', port, at, ...remote });
      return answer.flow_log === 'match' ? answer : undefined;
    },
    () => 'the log says nothing',
  );
const behind = async (socket: PeerSocket) => Number((await socket.tell()).remote.split(' ')[1]);

/** Until no more of what is to be written is taken. */
async function stuck(socket: PeerSocket): Promise<void> {
  const said = async () => {
    const { bytes_up, bytes_down } = await stats();
    return `${(await socket.tell()).waiting} ${bytes_up} ${bytes_down}`;
  };
  await eventually(
    async () => {
      const before = await said();
      await new Promise((resolve) => setTimeout(resolve, 200));
      return (await said()) === before && !before.startsWith('0 ') ? true : undefined;
    },
    () => 'it does not stop',
  );
}

const closeBoth = async (...sockets: readonly PeerSocket[]) => {
  for (const socket of sockets) await socket.act('reset');
  await eventually(
    async () => ((await stats()).open === 0 ? true : undefined),
    () => 'connections stay open',
  );
};

describe('connections that are carried on', () => {
  it.each([
    [4, origin4, address4, () => block4, 128],
    [6, origin6, address6, () => block6, 4],
  ] as const)(
    'go from leased ports, over IPv%i, and the client is told nothing of it',
    async (_f, to, from, block, size) => {
      const capture = await lab.capture(lab.origin, 'o0', 'tcp dst port 80');
      const [mine, theirs] = await connected(to);
      await mine.write('hello');
      await theirs.until(({ text }) => text === 'hello', 'nothing arrives');
      await theirs.write('there');
      expect(await mine.until(({ text }) => text === 'there', 'nothing comes back')).toMatchObject({
        remote: expect.anything() as unknown,
      });
      const { remote } = await theirs.tell();
      const [seen, port] = remote.split(' ');
      expect(seen).toBe(from);
      expect(Number(port)).toBeGreaterThanOrEqual(block());
      expect(Number(port)).toBeLessThan(block() + size);
      const sources = (await capture.stop()).map((line) => / IP6? (\S+)\.(\d+) > /.exec(line)?.slice(1).join(' '));
      expect([...new Set(sources)]).toEqual([remote]);
      await closeBoth(mine);
    },
  );

  it('beside those of fish, whose placeholders hold them in the same slice', async () => {
    const before = await stats();
    const [mine, theirs] = await connected(origin4, packetPort);
    await mine.write('hello');
    await theirs.until(({ text }) => text === 'hello', 'fish does not forward');
    expect((await stats()).accepted).toBe(before.accepted);
    expect((await agent.status()).fish?.stats['flows_live'] ?? 1).toBeGreaterThan(0);
    await mine.act('reset');
  });

  it.each([
    [4, origin4, address4],
    [6, `[${origin6}]`, address6],
  ] as const)('IPv%i: what curl and HAProxy send and get arrives unchanged', async (family, to, from) => {
    const already = (await stats()).connected;
    const [sent, page] = [`${lab.folder}/sent-${family}`, `${lab.folder}/page-${family}`];
    const body = randomBytes(4 * 1_024 * 1_024);
    writeFileSync(sent, body);
    const reply = JSON.stringify({ from, body: createHash('sha256').update(body).digest('hex') });
    const ask = (at: string) =>
      lab.shell(lab.clientSide, `curl -gs --max-time 20 --data-binary @${sent} -o ${page} ${at} && cat ${page}`);
    expect(ask(`http://${to}:82/`)).toBe(reply);
    const port = 8_000 + family;
    writeFileSync(
      `${lab.folder}/haproxy-${family}.cfg`,
      `defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
listen in
  bind 127.0.0.1:${port}
  server origin ${to}:82
`,
    );
    const haproxy = lab.spawn(lab.clientSide, ['haproxy', '-db', '-f', `${lab.folder}/haproxy-${family}.cfg`]);
    await eventually(
      () => (lab.shell(lab.clientSide, `ss -Htln sport = ${port}`).length > 0 ? true : undefined),
      () => 'HAProxy does not listen',
    );
    for (let i = 0; i < 3; i++) expect(ask(`http://127.0.0.1:${port}/`)).toBe(reply);
    // HAProxy keeps its connection for the next request.
    expect((await stats()).connected).toBe(already + 2);
    const remote = family === 4 ? origin4 : origin6;
    const { code, text } = await agent.get(`/flows/origins?remote=${remote}&remote_port=82`);
    expect(code).toBe(200);
    expect(JSON.parse(text)).toMatchObject({
      origins: [{ remote, remote_port: 82, refused: 0, timed_out: 0, last_problem: null }],
    });
    expect((await agent.get('/metrics')).text).toMatch(
      new RegExp(`destination_attempts_total\\{address="${remote}",port="82",outcome="connected"\\} 2\n`),
    );
    haproxy.kill();
    await closeBoth();
  });
});

describe('what one side does, the other side sees', () => {
  it('the end of one direction, while the other goes on', async () => {
    const [mine, theirs] = await connected();
    await mine.write('all I have');
    await mine.act('end');
    expect(await theirs.until(({ ended }) => ended, 'no end')).toMatchObject({ text: 'all I have', closed: false });
    await theirs.write('and here is the answer');
    await mine.until(({ text }) => text === 'and here is the answer', 'the other direction is shut');
    expect(await mine.tell()).toMatchObject({ ended: false });
    await theirs.act('end');
    expect(await mine.until(({ closed }) => closed, 'no end')).toMatchObject({ ended: true, error: null });
    expect(await theirs.until(({ closed }) => closed, 'not closed')).toMatchObject({ error: null });
  });

  it.each(['client', 'origin'] as const)('a reset by the %s', async (who) => {
    const { client_resets, origin_resets } = await stats();
    const [mine, theirs] = await connected();
    const [one, other] = who === 'client' ? [mine, theirs] : [theirs, mine];
    await mine.write('x');
    await theirs.until(({ received }) => received === 1, 'nothing arrives');
    await one.act('reset');
    expect(await other.until(({ closed }) => closed, 'it is not told')).toMatchObject({
      error: 'ECONNRESET',
      ended: false,
    });
    const now = await stats();
    expect([now.client_resets - client_resets, now.origin_resets - origin_resets]).toEqual(
      who === 'client' ? [1, 0] : [0, 1],
    );
  });

  it('an origin that refuses resets its client; one that does not answer gives it what the settings say', async () => {
    const already = await stats();
    // The kernel says yes before the origin is asked: ECONNREFUSED it cannot be any more.
    const refused = await client.connect(origin4, 9);
    expect(await refused.until(({ closed }) => closed, 'it is not told')).toMatchObject({ error: 'ECONNRESET' });
    lab.shell(
      lab.origin,
      'nft add table inet silent && nft add chain inet silent in "{ type filter hook input priority 0; }" && nft add rule inet silent in tcp dport 84 drop',
    );
    const silent = await client.connect(origin4, 84);
    expect(await silent.until(({ ended }) => ended, 'it is not told')).toMatchObject({ error: null, received: 0 });
    await silent.act('end');
    const { destinations, total, refused: refusals, timed_out } = await stats();
    expect([refusals - already.refused, timed_out - already.timed_out]).toEqual([1, 1]);
    expect(destinations).toContainEqual(
      expect.objectContaining({ address: origin4, port: 9, refused: 1, connected: 0 }),
    );
    expect(destinations).toContainEqual(expect.objectContaining({ address: origin4, port: 84, timed_out: 1 }));
    expect(destinations.find(({ port }) => port === 80)?.connect_times.sum_s).toBeGreaterThan(0);
    expect(total.connected).toBeGreaterThan(0);
  });

  it.each(['reset', 'end'] as const)(
    'that the client is gone before the origin has answered (%s): nobody waits for that any more',
    async (how) => {
      const { client_left, connected: before } = await stats();
      // Where this machine is so slow that the attempt is over first, there is another.
      await eventually(
        async () => {
          const gone = await client.connect(origin4, 84);
          await gone.until((state) => state.connected, 'no connection');
          await gone.act(how);
          await gone.until(({ closed }) => closed, 'not closed');
          return (await stats()).client_left > client_left ? true : undefined;
        },
        () => 'it is not noticed',
      );
      expect(await stats()).toMatchObject({ open: 0, connecting: 0, connected: before });
      expect(lab.shell(lab.host, 'ss -Htn state syn-sent dport = 84')).toBe('');
    },
  );

  it('that the client is done before the origin has answered, if it has said something: that arrives', async () => {
    lab.shell(lab.origin, 'nft add rule inet silent in tcp dport 80 drop');
    const mine = await client.connect(origin4, 80);
    await mine.write('all I have');
    await mine.act('end');
    await eventually(
      async () => ((await stats()).connecting === 1 ? true : undefined),
      () => 'nobody tries',
    );
    lab.shell(lab.origin, 'nft flush chain inet silent in');
    const theirs = await origin.next();
    expect(await theirs.until(({ ended }) => ended, 'no end')).toMatchObject({ text: 'all I have' });
    await closeBoth(theirs);
  });

  it.each([
    ['client', 'origin'],
    ['origin', 'client'],
  ])('that the %s reads slowly: the %s may send no more, and nothing is lost', async (reader) => {
    const bytes = 48 * 1_024 * 1_024;
    const [mine, theirs] = await connected(origin4, 81);
    await mine.act('stopReading');
    const [from, to, counter] =
      reader === 'client' ? ([theirs, mine, 'bytes_down'] as const) : ([mine, theirs, 'bytes_up'] as const);
    const already = (await stats())[counter];
    await from.write(bytes);
    await stuck(from);
    const passed = (await stats())[counter] - already;
    expect(passed).toBeGreaterThan(0);
    // What is on its way fits into the buffers of three kernels and one process.
    expect(passed).toBeLessThan(bytes);
    expect((await from.tell()).waiting).toBeGreaterThan(0);
    await to.act('read');
    await to.until(({ received }) => received === bytes, 'something is lost');
    await closeBoth(mine);
  });

  it.each(['client', 'origin'] as const)('that the %s resets while nothing more is taken from it', async (writer) => {
    const counter = `${writer}_resets` as const;
    const already = (await stats())[counter];
    const [mine, theirs] = await connected(origin4, 81);
    await mine.act('stopReading');
    const [from, to] = writer === 'client' ? [mine, theirs] : [theirs, mine];
    await from.write(48 * 1_024 * 1_024);
    await stuck(from);
    await closeBoth(from);
    expect((await stats())[counter]).toBe(already + 1);
    await to.act('read');
    expect(await to.until(({ closed }) => closed, 'it is not told')).toMatchObject({
      error: 'ECONNRESET',
      ended: false,
    });
  });
});

describe('who it is for', () => {
  it('the process that does it is the one that runs as a service, and has become a user without any privilege', async () => {
    const { terminator } = await agent.status();
    expect(terminator).toMatchObject({ running: true, pid: service.pid, problem: null });
    const text = readFileSync(`/proc/${terminator?.pid}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1]?.split(/\s+/);
    expect([field('Uid'), field('Gid')]).toEqual([Array(4).fill(String(uid)), Array(4).fill(String(uid))]);
    for (const set of ['CapEff', 'CapPrm', 'CapAmb']) expect(field(set)).toEqual(['0000000000000000']);
  });

  it('a client has so many connections and no more; the next is reset', async () => {
    const sockets: PeerSocket[] = [];
    for (let i = 0; i < 6; i++) sockets.push((await connected())[0]);
    const next = await client.connect(origin4, 80);
    expect(await next.until(({ closed }) => closed, 'it is not told')).toMatchObject({ error: 'ECONNRESET' });
    expect(await stats()).toMatchObject({ over_client_limit: 1, open: 6 });
    await closeBoth(...sockets);
  });

  it('every port serves each destination once; where none is left the client is reset, and it is counted', async () => {
    const { ports_exhausted } = await stats();
    await origin.listen(origin6, 83);
    const sockets: PeerSocket[] = [];
    for (let i = 0; i < 4; i++) sockets.push((await connected(origin6))[0]);
    const next = await client.connect(origin6, 80);
    expect(await next.until(({ closed }) => closed, 'it is not told')).toMatchObject({ error: 'ECONNRESET' });
    expect((await stats()).ports_exhausted).toBe(ports_exhausted + 1);
    // The same ports, to another destination.
    sockets.push((await connected(origin6, 83))[0]);
    await closeBoth(...sockets);
  });

  it('whoever connects to the listener itself is turned away', async () => {
    const { not_chosen } = await stats();
    lab.shell(lab.host, 'curl -s --max-time 5 http://127.0.0.1:7490/; test $? -ne 0');
    expect((await stats()).not_chosen).toBe(not_chosen + 1);
  });

  it('the log knows the client behind a port, while the connection lasts and when it is over', async () => {
    const [mine, theirs] = await connected(origin6);
    const port = await behind(theirs);
    const during = new Date().toISOString();
    const known = () => knownAt(address6, origin6, port, during);
    const expected = {
      certainty: 'exact',
      holders: [{ holder: 'terminator', basis: 'flow_log', client: '2001:db8:c::2' }],
    };
    expect(await known()).toMatchObject(expected);
    await closeBoth(mine);
    expect(await known()).toMatchObject(expected);
  });
});

/** Of a connection whose terminator is killed. */
let cut: Readonly<{ port: number; at: string }>;

describe('the host', () => {
  it('has rules and a route of the terminator that are put back when somebody takes them away', async () => {
    expect(lab.shell(lab.host, 'ip route show table 101')).toContain('local default dev lo proto 70');
    expect(lab.shell(lab.host, 'ip -6 route show table 101')).toContain('local default dev lo proto 70');
    expect(lab.shell(lab.host, 'ip rule')).toContain('from all fwmark 0x2b/0xff iif hc lookup 101 proto 70');
    const spoil = [
      'ip route flush table 101',
      'ip rule del priority 10 fwmark 0x2b/0xff iif hc',
      'nft flush chain inet fishery terminate',
    ];
    for (const command of spoil) {
      const { host } = await agent.status();
      lab.shell(lab.host, command);
      await agent.until(({ host: now }) => now.drift_repaired > host.drift_repaired, `not repaired: ${command}`);
    }
    // Where reverse paths are looked at strictly, with the mark as well: the rule is about what comes in, and is not met by that.
    const strict = ['all.rp_filter', 'hc.rp_filter', 'all.src_valid_mark', 'hc.src_valid_mark'];
    const set = (value: number) =>
      lab.shell(lab.host, `sysctl -qw ${strict.map((name) => `net.ipv4.conf.${name}=${value}`).join(' ')}`);
    set(1);
    const [mine] = await connected();
    set(0);
    await closeBoth(mine);
  });

  it('a terminator that dies resets what it had, and the agent starts another in its place', async () => {
    const [mine, theirs] = await connected();
    await mine.write('x');
    await theirs.until(({ received }) => received === 1, 'nothing arrives');
    cut = { port: await behind(theirs), at: new Date().toISOString() };
    const { terminator } = await agent.status();
    process.kill(terminator?.pid ?? NaN, 'SIGKILL');
    for (const end of [mine, theirs])
      expect(await end.until(({ closed }) => closed, 'it is not told')).toMatchObject({ error: 'ECONNRESET' });
    await agent.until(
      ({ terminator: now }) => now?.pid !== terminator?.pid && now?.stats?.leases === 2,
      'there is no other',
    );
    const [again] = await connected();
    await closeBoth(again);
    expect(await knownAt(address4, origin4, cut.port, cut.at)).toMatchObject({
      certainty: 'exact',
      holders: [{ holder: 'terminator', basis: 'flow_log', client: '100.64.0.2' }],
    });
  });

  it('an agent that is killed leaves its connections alone, and so does the next', async () => {
    const [mine, theirs] = await connected();
    const { terminator } = await agent.status();
    await agent.end('SIGKILL');
    await mine.write('while it is away');
    await theirs.until(({ text }) => text === 'while it is away', 'nothing arrives');
    agent = lab.startAgent(config);
    await agent.until(
      ({ terminator: now, guard }) => guard.open && now?.pid === terminator?.pid && now?.stats?.leases === 2,
      'it does not take over',
    );
    await mine.write(', and after');
    await theirs.until(({ text }) => text === 'while it is away, and after', 'nothing arrives');
    const [second] = await connected();
    await closeBoth(mine, second);
    // Of the terminator that was killed before, by an agent that never met it.
    expect(await knownAt(address4, origin4, cut.port, cut.at)).toMatchObject({ certainty: 'exact' });
  });

  it('is as it was before when everything is taken down', async () => {
    expect(await agent.end('SIGTERM')).toBe(0);
    const { items } = await lab.client.leases.list({ machine: 'edge' });
    expect(items.filter(({ state }) => state === 'active')).toEqual([]);
    // Of one that is killed it is left; and ended by the next whose settings want it no more.
    const killed = lab.startAgent(config);
    await killed.ready();
    await killed.end('SIGKILL');
    const terminators = () => lab.processes().filter((line) => line.includes('terminator.ts'));
    expect(terminators()).toHaveLength(1);
    const without = lab.startAgent(lab.configure({ client_interfaces: ['hc'] }));
    await without.ready();
    expect(terminators()).toEqual([]);
    await without.end('SIGKILL');
    lab.down(config);
    expect(lab.fingerprint()).toEqual(before);
  });
});
