import { setTimeout as sleep } from 'node:timers/promises';
import { readdirSync, readFileSync } from 'node:fs';
import { inTurn, ratioFigure, type Figure } from '../figures.ts';
import { run } from '../../test/kernel/support/sys-lab.ts';
import { FishLab } from './lab.ts';

const few = 10;
const many = 500_000;
const seconds = 1.5;
/** Slow enough that no SYN is dropped for lack of room in a queue. */
const syns_per_s = 40_000;
const remotes = '203.0.113.128';

/**
 * What a packet costs fish's thread with half a million connections, all of them in use in no order, beside the same with ten:
 * two hosts, each with an agent, because one table cannot be both. Cost is processor time of the thread, which system calls are
 * part of, divided by the packets that it forwarded.
 */
export async function* flows(rounds: number): AsyncGenerator<Figure, void, void> {
  await using small = await open('few', few);
  await using large = await open('many', many);
  await cost(small, few);
  await cost(large, many);
  const both = await inTurn(rounds, { subject: () => cost(large, many), peer: () => cost(small, few) });
  yield ratioFigure('fish.flows500k', both, { name: `the same with ${few} connections`, unit: 'ns/packet' });
}

async function open(name: string, count: number): Promise<FishLab> {
  const lab = await FishLab.open({
    name: `bench-${name}`,
    claims: [{ protocol: 'tcp', ports: 1_024 }],
    sides: ['fish'],
    fish: { flows_max: 524_288 },
  });
  const { lab: hosts } = lab;
  // The remotes have no sockets: what they answer, a program makes up, and nothing else is said.
  run(`ip -n ${hosts.origin} route add blackhole ${remotes}/25`);
  run(`ip -n ${hosts.host} route add 100.64.0.0/16 via 100.64.0.2`);
  const answering = await lab.atOrigin('answer', 'o0');
  for (let opened = 0; opened < count;) {
    lab.atClient('flows', remotes, count, 60, syns_per_s, 'syn');
    await sleep(500);
    const before = opened;
    opened = (await lab.stats())['flows_live'] ?? 0;
    if (opened === before) throw new Error(`${opened} of ${count} flows: ${JSON.stringify(await lab.stats())}`);
  }
  answering.end();
  return lab;
}

async function cost(lab: FishLab, count: number): Promise<number> {
  const pid = lab.agent.child.pid ?? 0;
  const before = { packets: (await lab.stats())['packets_out'] ?? 0, time: threadTimes_ns(pid) };
  lab.atClient('flows', remotes, count, seconds, 0, 'ack');
  const packets = ((await lab.stats())['packets_out'] ?? 0) - before.packets;
  const used = threadTimes_ns(pid);
  // Fish's thread is the one that had something to do.
  return Math.max(...[...used].map(([thread, time]) => time - (before.time.get(thread) ?? 0))) / packets;
}

/** Processor time of each thread of a process. */
function threadTimes_ns(pid: number): ReadonlyMap<string, number> {
  const tasks = `/proc/${pid}/task`;
  return new Map(
    readdirSync(tasks).map((thread) => [
      thread,
      Number(readFileSync(`${tasks}/${thread}/schedstat`, 'utf8').split(' ')[0]),
    ]),
  );
}
