import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startFish, type Fish } from '../../../src/agent/fish/fish.ts';
import { serveStatus, socketName } from '../../../src/agent/status/status-server.ts';
import { pcapng } from '../../../src/agent/trace/pcapng.ts';
import { packetText } from '../../../src/agent/trace/trace-text.ts';
import { fishConfig } from '../../../src/fish/config.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { block, client, client6, origin6 } from '../../support/fish.ts';
import { build, tcp, udp, type Endpoint } from '../../support/packets.ts';
import { runFishery } from '../../support/run-fishery.ts';
import { SocketTun } from '../../support/socket-tun.ts';

const dns: Endpoint = { address: '203.0.113.1', port: 53 };
const other: Endpoint = { address: '203.0.113.9', port: 53 };

let folder: string;
let fish: Fish;
let tun: SocketTun;
let stop: () => Promise<void>;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-trace-'));
  tun = new SocketTun();
  const config = fishConfig({ clientPrefixes: ['100.64.0.0/10' as Prefix], vnetHeaderBytes: 0, flowsMax: 64 });
  if (!config.ok) throw new Error(config.error);
  fish = await startFish({ config: config.value, tunFd: tun.fd, mark: 0 });
  await fish.setBlocks([block('198.51.100.10', 'udp', 9_000, 9_000, { lease: 'lease-1' })]);
  const served = await serveStatus(folder, { agent: { fish }, kernelTracer: null } as never);
  if (!served.ok) throw new Error(served.error);
  stop = served.value;
});
afterEach(async () => {
  await stop();
  await fish.stop();
  tun.close();
  rmSync(folder, { recursive: true, force: true });
});

const trace = (...args: string[]) => runFishery(['trace', '--socket', join(folder, socketName), ...args], { env: {} });
/** Sends these again and again until the trace, which ends by itself, has seen enough. */
async function whileSending(packets: readonly Uint8Array[], tracing: ReturnType<typeof trace>) {
  const tracking = { isOver: false };
  const over = () => {
    tracking.isOver = true;
  };
  void tracing.then(over, over);
  while (!tracking.isOver) {
    for (const packet of packets) tun.send(packet);
    while ((await tun.receive(20)) !== undefined);
  }
  return tracing;
}

describe('fishery trace', () => {
  it('tells what became of each packet of a client, and why', async () => {
    const packets = [build(udp(client, dns)), build(tcp(client, dns, 'A'))];
    const { code, out } = await whileSending(packets, trace('--client', client.address, '--packets', '6'));
    expect(code).toBe(0);
    expect(out).toMatch(
      /udp 100\.96\.0\.2:40000 > 203\.0\.113\.1:53, \d+ bytes: forwarded as udp 198\.51\.100\.10:9000 > 203\.0\.113\.1:53/,
    );
    expect(out).toMatch(
      /tcp 100\.96\.0\.2:40000 > 203\.0\.113\.1:53 \[A\], 40 bytes: dropped, not_syn: TCP from a client/,
    );
    expect(out.trim().split('\n')).toHaveLength(6);
  });

  it('shows what was asked for alone, and finds what comes back by the leased address', async () => {
    const back = build(udp(dns, { address: '198.51.100.10', port: 9_000 }));
    const packets = [build(udp(client, dns)), build(udp(client, other)), back];
    const { out } = await whileSending(
      packets,
      trace(
        '--leased',
        '198.51.100.10',
        '--remote',
        dns.address,
        '--protocol',
        'udp',
        '--port',
        '9000',
        '--packets',
        '8',
        '--json',
      ),
    );
    const { steps } = JSON.parse(out) as { steps: { verdict: string; text: string }[] };
    expect(steps).toHaveLength(8);
    expect(steps.filter(({ text }) => text.includes(other.address))).toEqual([]);
    expect(steps.some(({ text }) => text.includes('forwarded as udp 203.0.113.1:53 > 100.96.0.2:40000'))).toBe(true);
    expect(new Set(steps.map(({ verdict }) => verdict))).toEqual(new Set(['forward']));
  });

  it('writes a capture of both sides of the translation that tcpdump reads', async () => {
    const file = join(folder, 'flow.pcapng');
    const packets = [build(udp(client, dns, { data: new Uint8Array(900).fill(7) }))];
    const { err } = await whileSending(packets, trace('--client', client.address, '--packets', '2', '--pcap', file));
    expect(err).toContain('ended at --packets 2: what came later is not here');
    expect(readFileSync(file).length).toBeGreaterThan(4 * 928);
    const read = execFileSync('tcpdump', ['-nr', '-'], { input: readFileSync(file), stdio: 'pipe' }).toString();
    expect(read.match(/IP 100\.96\.0\.2\.40000 > 203\.0\.113\.1\.53:/g)).toHaveLength(2);
    expect(read.match(/IP 198\.51\.100\.10\.9000 > 203\.0\.113\.1\.53:/g)).toHaveLength(2);
  });

  it('ends when it has kept as many bytes as it may, and says so', async () => {
    const file = join(folder, 'flow.pcapng');
    const packets = [build(udp(client, dns, { data: new Uint8Array(900).fill(7) }))];
    const bounded = trace('--client', client.address, '--bytes', '4096', '--pcap', file, '--json');
    const { code, out, err } = await whileSending(packets, bounded);
    expect({ code, err: err.trim() }).toMatchObject({
      code: 0,
      err: 'fishery trace: ended at --bytes 4096: what came later is not here',
    });
    // Two of each, of 928 bytes.
    expect(JSON.parse(out)).toMatchObject({ steps: [{}, {}, {}], ended_by: 'bytes' });
    expect(readFileSync(file).length).toBeLessThan(3 * 2 * 928 + 4_096);
  });

  it('ends when its time is over, with nothing to show, and refuses a second one meanwhile', async () => {
    const first = trace('--client', '100.96.0.77', '--seconds', '3');
    await expect.poll(async () => (await fish.readTrace()).isOver, { timeout: 5_000 }).toBe(false);
    expect(await trace('--seconds', '1')).toMatchObject({ code: 4, out: '' });
    const { code, out, err } = await first;
    expect({ code, out }).toEqual({ code: 0, out: '' });
    expect(err).toContain('no such packet was seen');
  }, 30_000);

  it('refuses what it does not understand', async () => {
    expect(await trace('--client', 'nobody')).toMatchObject({ code: 2, out: '' });
    expect(await trace('--seconds', '600')).toMatchObject({ code: 2, out: '' });
  });
});

describe('the words of a packet', () => {
  it('are those of its family, and none for what is no packet', () => {
    expect(packetText(build(tcp(client6, origin6, 'S')))).toBe('tcp [2001:db8:c::2]:40000 > [2001:db8:0:1::1]:443 [S]');
    expect(packetText(Uint8Array.of(0x45, 1, 2))).toBe('no IP packet');
  });
});

describe('a capture', () => {
  it('has blocks whose lengths are told twice, of whole words', () => {
    const file = pcapng(
      ['in', 'out'],
      [{ at: 1_767_261_600_000_001, place: 1, bytes: 7, data: Uint8Array.of(1, 2, 3), comment: 'x' }],
    );
    let blocks = 0;
    for (let at = 0; at < file.length; blocks++) {
      const length = file.readUInt32LE(at + 4);
      expect([length % 4, file.readUInt32LE(at + length - 4)]).toEqual([0, length]);
      at += length;
    }
    expect(blocks).toBe(4);
  });
});
