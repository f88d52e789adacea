import { setTimeout as sleep } from 'node:timers/promises';
import { FisheryError } from '../../../src/sdk/index.ts';
import { SseParser } from '../../../src/sdk/sse.ts';
import type { Change, LogEntry } from '../../../src/wire/agent.ts';
import type { Asker } from './asking.ts';
import { called, type History } from './checker.ts';

export type Watcher = Readonly<{ history: History; reached: () => number }>;

/** Reads the whole log a page at a time, each from any server. */
export function readLog(watcher: string, asker: Asker, signal: AbortSignal): Watcher {
  const seen: string[] = [];
  let after = 0;
  void untilAborted(signal, async () => {
    const page = await asker.one().events({ after, limit: 500 });
    for (const event of page.events) if (event.kind !== 'token') seen.push(nameOf(event));
    after = page.next_after;
    if (page.events.length === 0) await sleep(50);
  });
  return { history: { watcher, machine: null, seen }, reached: () => after };
}

/** Follows the whole log over one stream after another, each from any server, from where the last one broke. */
export const followLog = (watcher: string, asker: Asker, signal: AbortSignal): Watcher =>
  followStreams({ watcher, machine: null }, signal, (reached) => asker.one().watchEvents({}, reached, signal));

/** The same of what concerns a machine. */
export const watchMachine = (watcher: string, machine: string, asker: Asker, signal: AbortSignal): Watcher =>
  followStreams({ watcher, machine }, signal, (reached) => asker.one().agent.watch(machine, reached, signal));

function followStreams(
  whose: Pick<History, 'watcher' | 'machine'>,
  signal: AbortSignal,
  open: (reached: number) => Promise<ReadableStream<Uint8Array>>,
): Watcher {
  const seen: string[] = [];
  let reached = 0;
  void untilAborted(signal, async () => {
    const stream = await open(reached);
    const parser = new SseParser();
    for await (const chunk of stream)
      for (const { event, data } of parser.push(chunk)) {
        const value = JSON.parse(data) as { revision: number; kind?: string };
        if (event === 'compacted') throw new Error(`${whose.watcher} was told to take a snapshot`);
        if (event === 'change' && value.kind !== 'token') seen.push(nameOf(value as LogEntry | Change));
        reached = Math.max(reached, value.revision);
      }
  });
  return { history: { ...whose, seen }, reached: () => reached };
}

/** Again and again; what a server that was just killed does to it is why. */
async function untilAborted(signal: AbortSignal, step: () => Promise<void>): Promise<void> {
  while (!signal.aborted)
    try {
      await step();
    } catch (error) {
      const isOfTheWay = error instanceof FisheryError || error instanceof TypeError || signal.aborted;
      if (!isOfTheWay) throw error;
      await sleep(50);
    }
}

function nameOf(event: LogEntry | Change): string {
  switch (event.kind) {
    case 'lease':
      return called(event.revision, event.kind, `${event.lease.id} ${event.lease.state}`);
    case 'slice':
      return called(event.revision, event.kind, `${event.slice.id} ${event.slice.state}`);
    case 'session':
      return called(event.revision, event.kind, `${event.session.id} ${event.session.state}`);
    default:
      return called(event.revision, event.kind, '');
  }
}
