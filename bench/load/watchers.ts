/**
 * Agents that only listen: one event stream each, in a process of its own. Notes how long after its instant in the log a
 * change arrived, which is a little more than the way from commit to agent: the commit itself is in it.
 */
import { connect, type Socket } from 'node:net';
import { parseInstant } from '../../src/wire/instants.ts';

export type WatchJob = Readonly<{
  host: string;
  port: number;
  token: string;
  machines: readonly string[];
  from: number;
  /** These read nothing while they are told to stall. */
  stalling: readonly string[];
}>;
export type ToWatchers = Readonly<{ watch: WatchJob }> | Readonly<{ report: true }> | Readonly<{ stall: boolean }>;
/** Since the last report: milliseconds from log to agent; how many changes those that may stall have heard, and how they fared. */
export type WatchReport = Readonly<{ latencies: readonly number[]; heardByStalling: number; cutOff: number }>;
export type FromWatchers = Readonly<{ watching: number }> | WatchReport;

let latencies: number[] = [];
let heardByStalling = 0;
let cutOff = 0;
const stalling: Socket[] = [];

const nowUs = () => (performance.timeOrigin + performance.now()) * 1_000;

function open(job: WatchJob, machine: string): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const mayStall = job.stalling.includes(machine);
  const socket = connect({ host: job.host, port: job.port, noDelay: true }, () =>
    socket.write(
      `GET /v1/machines/${machine}/watch?from=${job.from} HTTP/1.1\r\nhost: ${job.host}\r\n` +
        `authorization: Bearer ${job.token}\r\naccept: text/event-stream\r\n\r\n`,
    ),
  );
  let text = '';
  let isOpen = false;
  socket.on('error', reject);
  socket.on('close', () => cutOff++);
  socket.on('data', (data: Buffer) => {
    text += data.toString('latin1');
    if (!isOpen) {
      if (!text.includes('\r\n\r\n')) return;
      if (!text.startsWith('HTTP/1.1 200')) reject(new Error(text));
      isOpen = true;
      resolve(socket);
    }
    // Chunks end with an event; the latest `at` is all that is looked at.
    const events = text.split('\n\n');
    text = events.pop() ?? '';
    for (const event of events) hear(event, mayStall);
  });
  return promise;
}

function hear(event: string, mayStall: boolean): void {
  const at = /"at":"([^"]+)"/.exec(event)?.[1];
  if (at === undefined) return;
  if (mayStall) heardByStalling++;
  else latencies.push((nowUs() - parseInstant(at)) / 1_000);
}

const tell = (message: FromWatchers) => process.send?.(message);

process.on('message', (message: ToWatchers) => {
  if ('watch' in message) void watch(message.watch);
  else if ('stall' in message)
    for (const socket of stalling)
      if (message.stall) socket.pause();
      else socket.resume();
  else {
    tell({ latencies, heardByStalling, cutOff });
    latencies = [];
    heardByStalling = 0;
  }
});

const opened_at_once = 50;

async function watch(job: WatchJob): Promise<void> {
  for (let first = 0; first < job.machines.length; first += opened_at_once) {
    const some = job.machines.slice(first, first + opened_at_once);
    const sockets = await Promise.all(some.map((machine) => open(job, machine)));
    for (const [index, machine] of some.entries()) {
      const socket = sockets[index];
      if (socket && job.stalling.includes(machine)) stalling.push(socket);
    }
  }
  tell({ watching: job.machines.length });
}
