import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TerminatedFlows } from '../../../src/agent/flow-log/terminated-flows.ts';
import type { FlowAnswer } from '../../../src/fish/log/flow-log.ts';
import type { Address } from '../../../src/net/address.ts';
import { unmap, type Mapping } from '../../../src/sys/shared-memory.ts';
import { margin_us } from '../../../src/terminate/connection-log.ts';
import type { ConnectionMemory } from '../../../src/terminate/connection-memory.ts';
import { openConnectionMemory } from '../../../src/terminate/log-file.ts';

const address = '198.51.100.10' as Address;
const second = 1_000_000;
let folder: string;
let socket: string;
let disk: string;
let start: number;
let nowUs: number;
const running: TerminatedFlows[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-terminated-'));
  [socket, disk] = [join(folder, 'terminator-1.sock'), join(folder, 'flows')];
  start = Date.now() * 1_000 + second;
  nowUs = start;
});
afterEach(async () => {
  for (const flows of running.splice(0)) await flows.leave();
  rmSync(folder, { recursive: true, force: true });
});

/** The log as an agent has it. */
function agent(retention_s = 86_400): TerminatedFlows {
  const limits = { retention_s, bytes_max: 1_048_576 };
  const log = pino({ level: 'silent' });
  const flows = new TerminatedFlows({ folder: disk, limits, socket, log, nowUs: () => nowUs });
  running.push(flows);
  return flows;
}

/** A terminator's process: what it has is in a file, and locked as long as it is there. */
class Process {
  static #pid = 100;
  readonly path = join(folder, `terminator-1-${Process.#pid++}-${Process.#pid}.flows`);
  readonly memory: ConnectionMemory;
  readonly #mapping: Mapping;

  constructor(ended = 64) {
    const { memory, mapping } = openConnectionMemory(this.path, { lasting: 64, ended });
    [this.memory, this.#mapping] = [memory, mapping];
  }

  begin(port: number, at: number): number {
    const client = `100.64.0.${port}` as Address;
    const remote = { remote: '203.0.113.1' as Address, remotePort: 443 };
    return this.memory.begin({ lease: 'lease-1', client, clientPort: 1, address, port, ...remote, openedAt: at });
  }

  connection(port: number, from: number, to: number): void {
    this.memory.end(this.begin(port, from), to, 'finished');
  }

  die(): void {
    unmap(this.#mapping);
  }
}

const ask = (flows: TerminatedFlows, port: number, at: number, answer: FlowAnswer | null = null): Promise<FlowAnswer> =>
  flows.complete({ protocol: 'tcp', address, port, remote: null, remotePort: null, at }, answer, 10);
/** What a terminator says that is at work, and has nothing in memory. */
const inMemory = (): FlowAnswer => ({
  ...{ verdict: 'not_covered', matches: [], truncated: false, marginUs: margin_us },
  ...{ coversSince: nowUs, coversThrough: nowUs },
});

describe('the log of a terminator that is killed', () => {
  it('has what ended and what lasted, and nothing is missing behind it', async () => {
    const flows = agent();
    const first = new Process();
    await flows.follow(first.path);
    first.connection(1, start, start + second);
    first.begin(2, start + second);
    nowUs = start + 5 * second;
    first.die();
    await flows.ended();
    expect(existsSync(first.path)).toBe(false);
    expect(await ask(flows, 1, start)).toMatchObject({ matches: [{ client: '100.64.0.1', ending: 'finished' }] });
    expect(await ask(flows, 2, start + 2 * second)).toMatchObject({
      verdict: 'match',
      matches: [{ client: '100.64.0.2', openedAt: start + second, closedAt: nowUs, ending: 'cut' }],
    });
    expect(await ask(flows, 3, start + 2 * second)).toMatchObject({ verdict: 'not_mine' });
    // Nobody is at work, so nobody has anything.
    nowUs = start + 9 * second;
    expect(await ask(flows, 2, start + 8 * second)).toMatchObject({ verdict: 'not_mine' });
    const next = new Process();
    await flows.follow(next.path);
    expect(await ask(flows, 2, start + 2 * second, inMemory())).toMatchObject({
      matches: [{ closedAt: start + 5 * second }],
    });
    expect(await ask(flows, 3, start + 2 * second, inMemory())).toMatchObject({ verdict: 'not_mine' });
    next.die();
  });

  it('while no agent is there is read by the next, and says that its end is not certain', async () => {
    const before = agent();
    const first = new Process();
    await before.follow(first.path);
    await before.leave();
    first.connection(1, start, start + second);
    first.begin(2, start + second);
    first.memory.alive(start + 3 * second);
    first.die();
    nowUs = start + 60 * second;
    const flows = agent();
    const next = new Process();
    await flows.follow(next.path);
    expect(existsSync(first.path)).toBe(false);
    expect(await ask(flows, 1, start, inMemory())).toMatchObject({ verdict: 'match' });
    expect(await ask(flows, 2, start + 2 * second, inMemory())).toMatchObject({
      matches: [{ closedAt: start + 3 * second, ending: 'cut' }],
    });
    expect(await ask(flows, 9, start + 2 * second, inMemory())).toMatchObject({ verdict: 'not_mine' });
    expect(await ask(flows, 2, start + 4 * second, inMemory())).toMatchObject({ verdict: 'not_covered' });
    next.die();
  });
});

describe('the log of a terminator that goes on', () => {
  it('while agents come and go, killed or not, has no gap', async () => {
    const terminator = new Process();
    for (let restart = 0; restart < 3; restart++) {
      const flows = agent();
      await flows.follow(terminator.path);
      terminator.connection(restart * 2 + 1, nowUs, nowUs + second);
      nowUs += 10 * second;
      expect(await ask(flows, 1, start, inMemory())).toMatchObject({ verdict: 'match', matches: [{}] });
      expect(await ask(flows, 99, start, inMemory())).toMatchObject({ verdict: 'not_mine' });
      await flows.leave();
      terminator.connection(restart * 2 + 2, nowUs, nowUs + second);
      nowUs += 10 * second;
    }
    const flows = agent();
    await flows.follow(terminator.path);
    for (let port = 1; port <= 6; port++)
      expect(await ask(flows, port, start + (port - 1) * 10 * second, inMemory())).toMatchObject({ matches: [{}] });
    expect(await ask(flows, 99, start, inMemory())).toMatchObject({ verdict: 'not_mine' });
    terminator.die();
  });

  it('covers nothing from before the time in which more ended than it could remember', async () => {
    const terminator = new Process(2);
    const before = agent();
    await before.follow(terminator.path);
    terminator.connection(1, start, start + second);
    await vi.waitFor(() => expect(before.stats()['disk_flows_written']).toBe(1));
    await before.leave();
    for (let port = 2; port <= 4; port++)
      terminator.connection(port, start + port * second, start + (port + 1) * second);
    nowUs = start + 60 * second;
    const flows = agent();
    await flows.follow(terminator.path);
    await vi.waitFor(() => expect(flows.stats()['disk_flows_missed']).toBe(1));
    expect(await ask(flows, 1, start, inMemory())).toMatchObject({ verdict: 'match' });
    expect(await ask(flows, 99, start, inMemory())).toMatchObject({ verdict: 'not_covered' });
    expect(await ask(flows, 99, start + 5 * second, inMemory())).toMatchObject({ verdict: 'not_mine' });
    terminator.die();
  });

  it('is not called over when only its line to the agent was cut', async () => {
    const flows = agent();
    const terminator = new Process();
    await flows.follow(terminator.path);
    terminator.begin(1, start);
    nowUs = start + 5 * second;
    await flows.ended();
    expect(existsSync(terminator.path)).toBe(true);
    expect(await ask(flows, 1, start + second)).toMatchObject({ verdict: 'not_covered', matches: [] });
    await flows.follow(terminator.path);
    expect(await ask(flows, 9, start + second, inMemory())).toMatchObject({ verdict: 'not_mine' });
    terminator.die();
    await flows.ended();
    expect(await ask(flows, 1, start + second)).toMatchObject({ matches: [{ client: '100.64.0.1', closedAt: nowUs }] });
  });
});

describe('the log on a disk', () => {
  it('that takes nothing keeps the file until it does', async () => {
    const flows = agent();
    const first = new Process();
    await flows.follow(first.path);
    await vi.waitFor(() => expect(readdirSync(disk)).toHaveLength(1));
    first.begin(1, start);
    // Its folder is gone, and no other can be made in its place.
    rmSync(disk, { recursive: true });
    writeFileSync(disk, '');
    await flows.leave();
    first.die();
    const next = new Process();
    const again = agent();
    await again.follow(next.path);
    expect(again.problem).toContain('the log of terminated connections');
    expect(existsSync(first.path)).toBe(true);
    rmSync(disk);
    mkdirSync(disk);
    chmodSync(disk, 0o700);
    await again.follow(next.path);
    expect(existsSync(first.path)).toBe(false);
    expect(await ask(again, 1, start, inMemory())).toMatchObject({ matches: [{ client: '100.64.0.1' }] });
    next.die();
  });

  it('is not written, and what there was is removed, where nothing is to be kept', async () => {
    mkdirSync(disk);
    const flows = agent(0);
    const terminator = new Process();
    await flows.follow(terminator.path);
    expect(existsSync(disk)).toBe(false);
    expect(await ask(flows, 1, start, inMemory())).toEqual(inMemory());
    terminator.die();
    await flows.ended();
    expect(existsSync(terminator.path)).toBe(false);
  });

  it('is begun though another left a file that nobody can read', async () => {
    writeFileSync(join(folder, 'terminator-1-3-4.flows'), 'half');
    const flows = agent();
    const terminator = new Process();
    await flows.follow(terminator.path);
    expect(existsSync(join(folder, 'terminator-1-3-4.flows'))).toBe(false);
    expect(flows.problem).toBeNull();
    terminator.die();
  });
});
