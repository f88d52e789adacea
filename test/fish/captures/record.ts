/**
 * Makes the captures in this folder: real packets, each beside what the kernel's own NAT made of it.
 *
 *     node test/fish/captures/record.ts        (root; ip, nft, tcpdump, ethtool, curl, dig, ping)
 *
 * A client talks to an origin through a host whose nftables translate its source to 198.51.100.10:9000. Both sides of the
 * host are captured, with checksum offload off, so that every checksum on the wire is real; packets are paired in their
 * order. Packets as segmentation offload makes them are read from a TUN, with the virtio headers that no capture shows.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inNamespace, ipBatch, run } from '../../../demo/commands.ts';
import { addresses, createLab, links } from '../../../demo/lab.ts';
import { cableEnds } from '../../support/cables.ts';

const origin = `
  const http = require('node:http').createServer((q, s) => q.pipe(require('node:stream').Writable({ write(c, e, d) { d(); } })).on('finish', () => s.end('hello from the origin\\n')));
  http.listen(80, '${addresses.origin}');
  const dns = require('node:dgram').createSocket('udp4');
  dns.on('message', (m, from) => { const r = Buffer.from(m); r[2] |= 0x80; r[3] = 3; dns.send(r, from.port, from.address); });
  dns.bind(53, '${addresses.origin}', () => console.log('ready'));`;

const snat = (port: number) => `
table ip nat {
  chain post {
    type nat hook postrouting priority srcnat
    oifname "${links.hostToOrigin}" meta l4proto { tcp, udp } snat to 198.51.100.10:${port}
    oifname "${links.hostToOrigin}" ip protocol icmp snat to 198.51.100.10:${port}
  }
}
`;

/** Prints in hex what a TUN hands out, virtio header first, and hands it back, so that it goes on as it came. */
const tunReader = `
  const { openTun, readInto, writeFrom } = await import('${new URL('../../../src/sys/tun.ts', import.meta.url).href}');
  const { waitReadable } = await import('${new URL('../../../src/sys/wait.ts', import.meta.url).href}');
  const { fd } = openTun('fishtun', { persist: false, offload: true });
  console.log('ready');
  const bytes = new Uint8Array(70000);
  const fds = Int32Array.of(fd);
  while (waitReadable(fds, 1, 5000)) {
    const n = readInto(fd, bytes);
    if (n <= 0) continue;
    console.log(Buffer.from(bytes.subarray(0, n)).toString('hex'));
    writeFrom(fd, bytes, n);
  }`;

const children: ChildProcess[] = [];

async function startIn(namespace: string, ...command: string[]): Promise<ChildProcess> {
  const child = spawn('ip', ['netns', 'exec', namespace, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return child;
}

async function startScript(namespace: string, script: string, flags: string[] = []): Promise<ChildProcess> {
  const child = await startIn(namespace, process.execPath, ...flags, '-e', script);
  await once(child.stdout!, 'data');
  return child;
}

/** The IPv4 packets of an Ethernet capture file, in hex. */
function packetsOf(path: string): string[] {
  const file = readFileSync(path);
  const packets: string[] = [];
  for (let at = 24; at < file.length;) {
    const bytes = file.readUInt32LE(at + 8);
    packets.push(file.subarray(at + 16 + 14, at + 16 + bytes).toString('hex'));
    at += 16 + bytes;
  }
  return packets;
}

async function captureBothSides(host: string, filter: string, traffic: () => void): Promise<[string[], string[]]> {
  const files = [links.hostToClient, links.hostToOrigin].map((link) => join(tmpdir(), `fishery-capture-${link}.pcap`));
  const dumps = await Promise.all(
    [links.hostToClient, links.hostToOrigin].map((link, i) =>
      startIn(host, 'tcpdump', '-qUni', link, '-w', files[i] ?? '', filter),
    ),
  );
  await sleep(1_000);
  traffic();
  await sleep(1_000);
  for (const dump of dumps) {
    dump.kill('SIGINT');
    await once(dump, 'exit');
  }
  const captured = files.map(packetsOf);
  for (const file of files) rmSync(file);
  return [captured[0] ?? [], captured[1] ?? []];
}

const isFromClient = (hex: string) => hex.slice(24, 32) === '64600002';

/** One line per packet: which way, as it came to the host, as it left. */
function pairUp(inside: readonly string[], outside: readonly string[]): string {
  if (inside.length !== outside.length) throw new Error(`${inside.length} packets inside, ${outside.length} outside`);
  return inside
    .map((hex, i) => (isFromClient(hex) ? `out ${hex} ${outside[i] ?? ''}` : `in ${outside[i] ?? ''} ${hex}`))
    .join('\n');
}

const lab = createLab('ff-cap');
try {
  for (const [namespace, link] of cableEnds(lab))
    inNamespace(namespace, 'ethtool', '-K', link, 'tx', 'off', 'gso', 'off', 'tso', 'off', 'gro', 'off');
  inNamespace(lab.host, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  run('ip', '-n', lab.host, 'addr', 'add', '198.51.100.10/32', 'dev', 'lo');
  writeFileSync(join(tmpdir(), 'fishery-capture.nft'), snat(9_000));
  inNamespace(lab.host, 'nft', '-f', join(tmpdir(), 'fishery-capture.nft'));
  rmSync(join(tmpdir(), 'fishery-capture.nft'));
  await startScript(lab.origin, origin);
  const traffic = {
    tcp: () => inNamespace(lab.client, 'curl', '-sS', '--local-port', '40000', `http://${addresses.origin}/`),
    udp: () =>
      inNamespace(lab.client, 'dig', '+tries=1', '-b', '100.96.0.2#40000', `@${addresses.origin}`, 'a.example'),
    icmp: () => inNamespace(lab.client, 'ping', '-c1', '-e', '4660', addresses.origin),
  };
  for (const [protocol, send] of Object.entries(traffic)) {
    const [inside, outside] = await captureBothSides(lab.host, protocol, send);
    writeFileSync(join(import.meta.dirname, `${protocol}.txt`), `${pairUp(inside, outside)}\n`);
  }

  // The same, with offloads on, and in place of the NAT a TUN on the way out. The way back is a plain route.
  inNamespace(lab.host, 'nft', 'flush', 'ruleset');
  for (const [namespace, link] of [
    [lab.client, links.client],
    [lab.host, links.hostToClient],
  ] as const)
    inNamespace(namespace, 'ethtool', '-K', link, 'tx', 'on', 'gso', 'on', 'tso', 'on', 'gro', 'on');
  const reader = await startScript(lab.host, tunReader, ['--input-type=module']);
  inNamespace(lab.host, 'sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.fishtun.rp_filter=0');
  ipBatch(
    lab.host,
    `link set fishtun up
     route add default dev fishtun table 100
     rule add iif ${links.hostToClient} lookup 100`,
  );
  ipBatch(lab.origin, `route add 100.96.0.0/24 via ${addresses.hostToOrigin}`);
  let lines = '';
  reader.stdout!.on('data', (chunk) => (lines += String(chunk)));
  inNamespace(lab.client, 'curl', '-sS', '--data-binary', '7'.repeat(4_000), `http://${addresses.origin}/`);
  const datagram = `const s = require('node:dgram').createSocket('udp4'); s.send(Buffer.alloc(1600, 7), 53, '${addresses.origin}', () => s.close())`;
  inNamespace(lab.client, process.execPath, '-e', datagram);
  await sleep(500);
  const seen = lines.split('\n').filter(Boolean);
  const isSegmented = (hex: string) => hex.slice(2, 4) !== '00';
  const isFragment = (hex: string) => (Number.parseInt(hex.slice(32, 36), 16) & 0x3fff) !== 0;
  const isSyn = (hex: string) => hex.slice(38, 40) === '06' && hex.slice(86, 88) === '02';
  for (const [name, packets] of Object.entries({
    offload: [...seen.filter(isSyn).slice(0, 1), ...seen.filter(isSegmented).slice(0, 1)],
    fragments: seen.filter(isFragment),
  }))
    writeFileSync(join(import.meta.dirname, `${name}.txt`), `${packets.join('\n')}\n`);
} finally {
  for (const child of children) child.kill('SIGKILL');
  lab.remove();
}
