import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RealServer } from '../support/real-server.ts';
import { deleteNamespaces, namespaceOf } from './support/namespaces.ts';
import { run } from './support/sys-lab.ts';

/**
 * Two machines share one address; a router in front of them loads the file that the server makes of its routes:
 *
 *     fr-rt-origin                    fr-rt-router                          fr-rt-a   lo 198.51.100.0, 2001:db8:a::
 *     lo 203.0.113.1, 2001:db8:f::1   mark 257 -> table 257 -> a  ra <----> a0
 *     o0 192.0.2.2  <-------------->  ro 192.0.2.1                          fr-rt-b   the same
 *                                     mark 258 -> table 258 -> b  rb <----> b0
 *
 * What one of the two sends, and is answered, comes back to it and not to the other, by the port alone.
 */
const names = ['origin', 'router', 'a', 'b'] as const;
const [origin, router, a, b] = names.map((name) => namespaceOf(`fr-rt-${name}`)) as [string, string, string, string];
const links = [
  { ns: origin, at: 'o0', router: 'ro', net: 2 },
  { ns: a, at: 'a0', router: 'ra', net: 10 },
  { ns: b, at: 'b0', router: 'rb', net: 11 },
] as const;
const pooled = { 4: '198.51.100.0', 6: '2001:db8:a::' } as const;
const origins = { 4: '203.0.113.1', 6: '2001:db8:f::1' } as const;
const hop = (net: number, host: number) => ({ 4: `192.0.${net}.${host}`, 6: `2001:db8:${net}::${host}` }) as const;

let server: RealServer;
beforeAll(async () => {
  close();
  server = await RealServer.start();
  run(...[origin, router, a, b].map((ns) => `ip netns add ${ns}`));
  for (const ns of [origin, router, a, b]) {
    const settings = ['net.ipv6.conf.all.accept_dad=0', 'net.ipv6.conf.default.accept_dad=0'];
    const filters = ['net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0'];
    const rates = ['net.ipv4.icmp_ratelimit=0', 'net.ipv6.icmp.ratelimit=0'];
    for (const setting of [...settings, ...filters, ...rates]) run(`ip netns exec ${ns} sysctl -qw ${setting}`);
    run(`ip -n ${ns} link set lo up`);
  }
  run(`ip netns exec ${router} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`);
  for (const { ns, at, router: device, net } of links) {
    run(`ip -n ${router} link add ${device} type veth peer name ${at} netns ${ns}`);
    for (const [where, link, host] of [
      [router, device, 1],
      [ns, at, 2],
    ] as const) {
      run(`ip -n ${where} addr add ${hop(net, host)[4]}/24 dev ${link}`);
      run(`ip -n ${where} addr add ${hop(net, host)[6]}/64 dev ${link} nodad`);
      run(`ip -n ${where} link set ${link} up`);
    }
    run(
      `ip -n ${ns} route add default via ${hop(net, 1)[4]}`,
      `ip -n ${ns} -6 route add default via ${hop(net, 1)[6]}`,
    );
  }
  run(`ip -n ${origin} addr add ${origins[4]}/32 dev lo`, `ip -n ${origin} addr add ${origins[6]}/128 dev lo nodad`);
  run(`ip -n ${router} route add ${origins[4]}/32 via ${hop(2, 2)[4]}`);
  run(`ip -n ${router} -6 route add ${origins[6]}/128 via ${hop(2, 2)[6]}`);
  for (const [ns, mark, net] of [
    [a, 257, 10],
    [b, 258, 11],
  ] as const) {
    run(`ip -n ${ns} addr add ${pooled[4]}/32 dev lo`, `ip -n ${ns} addr add ${pooled[6]}/128 dev lo nodad`);
    run(
      `ip -n ${router} rule add fwmark ${mark} table ${mark}`,
      `ip -n ${router} -6 rule add fwmark ${mark} table ${mark}`,
    );
    run(`ip -n ${router} route add default via ${hop(net, 2)[4]} table ${mark}`);
    run(`ip -n ${router} -6 route add default via ${hop(net, 2)[6]} table ${mark}`);
  }
});
afterAll(async () => {
  close();
  await server[Symbol.asyncDispose]();
});

function close(): void {
  deleteNamespaces(origin, router, a, b);
}

/** Runs nft in the router's namespace on a file; what it has to say against it, or nothing. */
const nft = (text: string, ...options: string[]): string =>
  spawnSync('ip', ['netns', 'exec', router, 'nft', ...options, '-f', '-'], { input: text, encoding: 'utf8' }).stderr;

/** Time enough for a loaded machine to start a process and find its neighbours, where an answer is expected. */
const patience_ms = 10_000;
/** How long nothing has to come where none is. */
const silence_ms = 1_500;

const toldBy = (ns: string, script: string): string =>
  spawnSync('ip', ['netns', 'exec', ns, process.execPath, '-e', script], { encoding: 'utf8' }).stdout.trim();

/**
 * Sends datagrams from this port of the pooled address to a closed port of the origin until somebody objects. Whoever is
 * told that it was refused got the ICMP error, which the router can only know by the packet that it quotes.
 */
const askedByDatagram = (ns: string, family: 4 | 6, port: number, wait_ms = patience_ms): string =>
  toldBy(
    ns,
    `const socket = require('node:dgram').createSocket('udp${family}');
    socket.bind(${port}, '${pooled[family]}', () => socket.connect(9, '${origins[family]}', () => {
      setInterval(() => socket.send('?', () => {}), 100);
      setTimeout(() => { console.log('silence'); process.exit(0); }, ${wait_ms});
    }));
    socket.on('error', ({ code }) => { console.log(code); process.exit(0); });`,
  );

/** Opens a TCP connection from this port: the origin's kernel resets it, and the reset has to come back. */
const askedByStream = (ns: string, family: 4 | 6, port: number, wait_ms = patience_ms): string =>
  toldBy(
    ns,
    `const options = { host: '${origins[family]}', port: 9, localAddress: '${pooled[family]}', localPort: ${port} };
    require('node:net').connect(options).on('error', ({ code }) => { console.log(code); process.exit(0); });
    setTimeout(() => { console.log('silence'); process.exit(0); }, ${wait_ms});`,
  );

const askedByEcho = (ns: string, family: 4 | 6, identifier: number, wait_ms = patience_ms): string => {
  const seconds = String(Math.ceil(wait_ms / 1_000));
  const from = ['-c', '1', '-W', seconds, '-e', String(identifier), '-I', pooled[family], origins[family]];
  return spawnSync('ip', ['netns', 'exec', ns, 'ping', `-${family}`, ...from]).status === 0 ? 'echo' : 'silence';
};

describe("the file of routes, in a router's kernel", () => {
  it('is accepted, and packets follow it: by port, by echo identifier, and errors by what they quote', async () => {
    const { client } = server;
    const size = { slice_ports: 2_048, usable_ports: { first: 8_192, last: 65_535 } };
    const cooldown_s = { tcp: 0, udp: 0, icmp: 0 };
    for (const [id, prefix] of [
      ['four', '198.51.100.0/31'],
      ['six', '2001:db8:a::/64'],
    ] as const)
      await client.pools.create({ id, prefixes: [prefix], ...size, cooldown_s });
    await client.machines.create({ id: 'a', enforcement: 'none', mark: 257, next_hops: Object.values(hop(10, 2)) });
    await client.machines.create({ id: 'b', enforcement: 'none', mark: 258, next_hops: Object.values(hop(11, 2)) });
    // Of each pool the first slice, ports 8192 to 10239, and the next.
    for (const machine of ['a', 'b']) for (const pool of ['four', 'six']) await client.slices.assign({ machine, pool });

    const file = await client.routes.nft();
    expect(nft(file, '-c')).toBe('');
    expect(nft(file)).toBe('');
    for (const family of [4, 6] as const)
      for (const [ns, port] of [
        [a, 8_192],
        [a, 10_239],
        [b, 10_240],
        [b, 12_287],
      ] as const) {
        const heard = [askedByDatagram, askedByStream, askedByEcho].map((ask) => ask(ns, family, port));
        expect([family, ns, port, ...heard]).toEqual([family, ns, port, 'ECONNREFUSED', 'ECONNREFUSED', 'echo']);
      }
    // From the other's ports nothing comes back, nor from ports of nobody.
    expect([
      askedByDatagram(b, 4, 8_192, silence_ms),
      askedByStream(a, 6, 10_240, silence_ms),
      askedByEcho(a, 4, 20_000, silence_ms),
    ]).toEqual(['silence', 'silence', 'silence']);
  }, 120_000);

  it('replaces the one before it at once, and leaves what others put in its table', async () => {
    const { client } = server;
    nft('add chain inet fishery_routes mine\nadd rule inet fishery_routes mine counter comment "mine"\n');
    const { items } = await client.slices.list({ machine: 'a', pool: 'four' });
    const [slice] = items;
    if (!slice) throw new Error('no slice');
    await client.slices.drain(slice);
    await expect.poll(async () => (await client.slices.get(slice.id)).state, { timeout: 5_000 }).toBe('free');
    const at = { address: '198.51.100.0', first_port: 8_192 };
    await client.slices.assign({ machine: 'b', pool: 'four', at });
    const file = await client.routes.nft();
    expect(nft(file, '-c')).toBe('');
    expect(nft(file)).toBe('');
    expect(askedByDatagram(a, 4, 8_192, silence_ms)).toBe('silence');
    expect(askedByDatagram(b, 4, 8_192)).toBe('ECONNREFUSED');
    expect(askedByDatagram(a, 6, 8_192)).toBe('ECONNREFUSED');
    const listed = run(`ip netns exec ${router} nft list table inet fishery_routes`);
    expect(listed).toContain('comment "mine"');
    expect(listed).toContain('198.51.100.0 . 8192 : 192.0.11.2');
  }, 120_000);
});
