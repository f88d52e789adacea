/**
 * A broker by itself, as an agent starts it, with slices of 2,048 ports that a server has handed over, and a session of
 * the holder with the user id that is given. Arguments: a folder, how many slices, the user id. When it ends it writes
 * `loop.json` there: by how much the thread, which is the agent's, came late to what it had to do meanwhile, in milliseconds.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { Broker } from '../../src/broker/broker.ts';
import { ipv4FromNumber } from '../../src/net/address.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { FisheryClient } from '../../src/sdk/index.ts';
import type { Holder } from '../../src/wire/machines.ts';
import type { Slice } from '../../src/wire/slices.ts';

const [folder = '', slices = '', uid = ''] = process.argv.slice(2);
const at = '2026-01-31T14:03:07.000000Z';
const slicesPerAddress = 32;

const holder: Holder = {
  ...{ machine: 'bench', name: 'proxy', kind: 'proxy', uid: Number(uid), cgroup: null, limits: null },
  ...{ created_at: at, updated_at: at, revision: 1 },
};
const sliceAt = (index: number, state: Slice['state']): Slice => {
  const first = (index % slicesPerAddress) * 2_048;
  return {
    ...{ id: `slice-${index + 1}`, pool: 'bench', machine: 'bench', state, generation: 1, allocator: 'machine' },
    address: ipv4FromNumber(0x64_40_00_00 + Math.floor(index / slicesPerAddress)),
    ports: { first, last: first + 2_047 },
    ...{ draining_since: null, drain_by: null, next: null, reclaimed: false, assigned_at: at, reusable_at: null },
    ...{ route: { state: 'routed', revision: 1, since: at }, revision: 1 },
  };
};
const pool = {
  ...{ id: 'bench', labels: {}, prefixes: ['100.64.0.0/24'], carve_outs: [], slice_ports: 2_048 },
  ...{ usable_ports: { first: 0, last: 65_535 }, shared_block_ports: 128 },
  cooldown_s: { tcp: 120, udp: 120, icmp: 120 },
};

const socket = join(folder, 'broker.sock');
const started = await Broker.start({
  ...{ machine: 'bench', directory: join(folder, 'table'), socket, version: '0.0.0' },
  log: createLogger({ level: 'error' }),
  cutOff: () => undefined,
  serverNowUs: () => undefined,
  holders: () => [holder],
  cgroupOf: () => undefined,
  onTold: () => {},
  onLost: () => {},
  // A server that takes everything at once: what is measured is what the host does, reports included.
  send: async ({ broker_epoch, through }) => ({ ok: true, answer: { broker_epoch, through, page: 0, rejected: [] } }),
  doze: async (ms, signal) => {
    await sleep(ms, undefined, { signal }).catch(() => {});
  },
});
if (!started.ok) throw new Error(started.error);
const broker = started.value;
for (const state of ['assigning', 'assigned'] as const) {
  const all = Array.from({ length: Number(slices) }, (_, index) => sliceAt(index, state));
  await broker.mirror({
    machine: 'bench',
    state: 'active',
    fence_s: 30,
    pools: [pool],
    holders: [holder],
    slices: all,
    revocations: [],
  });
}
while (broker.status().told_through === null) await sleep(10);
const client = new FisheryClient({ url: `unix:${socket}` });
const { id } = await client.sessions.open({ machine: 'bench', holder: 'proxy', ttl_s: 3_600 });
console.log(`session     ${id}`);
/** The granularity of the measurement, which is taken off. */
const resolution_ms = 10;
const delay = monitorEventLoopDelay({ resolution: resolution_ms });
delay.enable();
console.log(`listening   unix:${socket}`);
process.on('SIGTERM', () => {
  delay.disable();
  const late = (ns: number) => Math.max(0, ns / 1e6 - resolution_ms);
  const figures = { worst_ms: late(delay.max), p99_ms: late(delay.percentile(99)) };
  writeFileSync(join(folder, 'loop.json'), JSON.stringify(figures));
  void broker.close().then(() => process.exit());
});
