import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { spawn, type ChildProcess } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from './support/agent-lab.ts';
import type { HeldSoFar } from './support/placeholders-process.ts';
import type { ProbeReport } from './support/prober-process.ts';
import { createLab, type Lab } from './support/sys-lab.ts';

const program = fileURLToPath(new URL('./support/placeholders-process.ts', import.meta.url));
const prober = fileURLToPath(new URL('./support/prober-process.ts', import.meta.url));
/** Of which a keeper keeps 317 to itself. */
const descriptors = 900;
const v4 = '198.51.100.10';
const v6 = '2001:db8::10';

type Wanted = Readonly<{ protocol: 'tcp' | 'udp' | 'icmp'; address: string; first: number; last: number }>;
const blocks: readonly Wanted[] = [
  { protocol: 'tcp', address: v4, first: 9_000, last: 9_499 },
  { protocol: 'tcp', address: v6, first: 9_000, last: 9_499 },
  { protocol: 'udp', address: v4, first: 9_000, last: 9_299 },
  { protocol: 'udp', address: v6, first: 9_000, last: 9_299 },
  { protocol: 'icmp', address: v4, first: 100, last: 199 },
  // The same identifiers, which the whole host shares.
  { protocol: 'icmp', address: v6, first: 150, last: 219 },
];
const all = 500 + 500 + 300 + 300 + 120;

let lab: Lab;
let folder: string;
const children = new Set<ChildProcess>();
beforeAll(async () => {
  lab = await createLab('keepers');
  lab.host.shell("sysctl -qw net.ipv4.ping_group_range='0 0'");
  folder = mkdtempSync(join(tmpdir(), 'fishery-keepers-'));
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});
afterAll(async () => {
  await lab.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A process in the host's namespace with few descriptors, and the lines that it prints. */
function start(script: string, ...args: readonly string[]): { child: ChildProcess; lines: string[] } {
  const limited = ['sh', '-c', `ulimit -n ${descriptors}; exec "$@"`, 'sh', process.execPath, script, ...args];
  const child = spawn('ip', ['netns', 'exec', lab.host.namespace, ...limited], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  const lines: string[] = [];
  child.stdout.on('data', (chunk: Buffer) => lines.push(...chunk.toString().split('\n').filter(Boolean)));
  return { child, lines };
}

const textOf = (wanted: readonly Wanted[]) =>
  JSON.stringify(wanted.map(({ first, last, ...rest }) => ({ ...rest, ports: { first, last }, mode: 'exclusive' })));

/** An agent's placeholders, once so many blocks are held or refused. */
async function hold(implementation: string, wanted: readonly Wanted[], until = wanted.length) {
  const { child, lines } = start(program, folder, implementation, textOf(wanted));
  const held = await eventually(
    () => (lines.length >= until ? (JSON.parse(lines.at(-1) ?? '') as HeldSoFar) : undefined),
    () => `only ${lines.length} blocks are held`,
    60_000,
  );
  const kill = async () => {
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await ended;
  };
  return { held, kill };
}

async function probe() {
  const { child, lines } = start(prober, JSON.stringify(blocks));
  await eventually(
    () => (lines[0] === 'ready' ? true : undefined),
    () => 'the prober does not begin',
  );
  return async () => {
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    await ended;
    return JSON.parse(lines.slice(1).join('')) as ProbeReport;
  };
}

/** Every socket that the keepers have, by the kernel's number of it; their own are few. */
const socketsIn = (pids: readonly number[]): readonly string[] =>
  pids
    .flatMap((pid) => readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`)))
    .filter((link) => link.startsWith('socket:'))
    .sort();

describe.each(['native', 'typescript'])('placeholders in %s keepers', (implementation) => {
  it('of both families are more than one process may open, and outlive who opened them, half-way or done', async () => {
    // Killed where it stands, with some blocks held and one just begun.
    const first = await hold(implementation, blocks, 2);
    await first.kill();
    const second = await hold(implementation, blocks);
    expect(second.held).toMatchObject({ open: all, refusals: [] });
    expect(second.held.keepers).toHaveLength(Math.ceil(all / (descriptors - 317)));
    expect(second.held.keepers).toEqual(expect.arrayContaining([...first.held.keepers]));
    const before = socketsIn(second.held.keepers);

    const stop = await probe();
    await second.kill();
    const third = await hold(implementation, blocks);
    expect(third.held).toMatchObject({ open: all, refusals: [], keepers: second.held.keepers });
    const { got, attempts } = await stop();
    expect(got).toEqual([]);
    expect(attempts).toBeGreaterThan(all);
    // None was opened again. Of each keeper's connections, one is this agent's, as one was the agent's before.
    const after = socketsIn(third.held.keepers);
    expect(after).toHaveLength(before.length);
    expect(after.filter((socket) => before.includes(socket)).length).toBeGreaterThanOrEqual(all);

    // The leases of a successor are others: what they do not need is closed, and nothing else.
    await third.kill();
    const few = await hold(implementation, blocks.slice(0, 1));
    expect(few.held).toMatchObject({ open: 500, refusals: [] });
    const report = await (await probe())();
    expect(report.got.length).toBeGreaterThan(0);
    expect(report.got.filter((what) => what.includes(`tcp bind to ${v4}`) || what.startsWith('connect'))).toEqual([]);
    await few.kill();
    for (const pid of few.held.keepers) process.kill(pid, 'SIGKILL');
  });
});

it('a refused block names the process that is in the way, and leaves nothing in any keeper', async () => {
  const listener = `require('net').createServer().listen(9400, '${v4}', () => console.log('listening'))`;
  const stranger = spawn('ip', ['netns', 'exec', lab.host.namespace, process.execPath, '-e', listener]);
  children.add(stranger);
  await new Promise((resolve) => stranger.stdout.once('data', resolve));
  const { held } = await hold('native', [blocks[0]!, blocks[2]!]);
  expect(held.open).toBe(300);
  expect(held.refusals).toEqual([
    expect.stringMatching(
      new RegExp(
        `^EADDRINUSE: tcp port 9400 of ${v4}: a tcp socket \\(listen\\) .* of user 0: \\S+\\[${stranger.pid}\\]$`,
      ),
    ),
  ]);
  expect(socketsIn(held.keepers).length).toBeLessThan(300 + 10);
  for (const pid of held.keepers) process.kill(pid, 'SIGKILL');
});
