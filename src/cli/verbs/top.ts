import { z } from 'zod';
import { FisheryError, type FisheryClient } from '../../sdk/index.ts';
import { exitCodes } from '../command.ts';
import { interruption, pauseUnless } from '../interruption.ts';
import { samplesOf, type Sample } from '../output/prometheus.ts';
import { tableOf } from '../output/table.ts';
import { verb } from './verb.ts';

const groupings = ['pool', 'machine', 'protocol'] as const;
type Grouping = (typeof groupings)[number];

/** How the ports of one pool, machine or protocol are used. `used`: of all its ports, those that nobody else can have. */
type Row = Readonly<{
  name: string;
  ports: number;
  used: number;
  exclusive: number;
  shared: number;
  cooling: number;
  blocked: number;
  free: number;
  machine_allocated: number;
  /** Of these, by the word of their machines; null: they did not say. */
  machine_used: number | null;
}>;
type Frame = Readonly<{
  at: string;
  revision: number;
  /** Per second since the frame before; null in the first. */
  changes_per_s: number | null;
  grants_per_s: number | null;
  refusals_per_s: number | null;
  watchers: number;
  rows: readonly Row[];
}>;

export const top = verb({
  name: 'top',
  summary: 'See how full everything is, as it changes',
  operations: ['getMetrics'],
  flags: z.strictObject({
    by: z.enum(groupings).default('pool').meta({ description: 'What to add up' }),
    every_s: z.number().min(0.2).max(3_600).default(2).meta({ description: 'How often to look, in seconds' }),
    frames: z.int().min(1).optional().meta({ description: 'End after so many looks; default: when interrupted' }),
  }),
  details: `On a terminal the screen is redrawn until Ctrl-C. Elsewhere each look is printed below the one before, and with --json it
is a line of JSON. Ports are counted once for each protocol.`,
  run: async ({ client, flags, output, context: { print, complain, terminal } }) => {
    using interrupted = interruption(terminal.signals);
    const { signal } = interrupted;
    const redraws = terminal.isScreen && !output.json && flags.frames !== 1;
    let before: readonly Sample[] | undefined;
    let sampledAtMs = performance.now();
    try {
      if (redraws) await terminal.write(screen.enter);
      for (let frames = 1; !signal.aborted; frames++) {
        const samples = await lookedAt(client, signal);
        if (samples instanceof FisheryError) {
          // A server that is restarted comes back; whoever looks only so often wants to know at once.
          if (flags.frames !== undefined) throw samples;
          if (redraws) await terminal.write(screen.draw(samples.message, terminal.size()));
          else complain(samples.message);
          await pauseUnless(signal, flags.every_s * 1_000);
          continue;
        }
        const seconds = (performance.now() - sampledAtMs) / 1_000;
        sampledAtMs = performance.now();
        const frame = frameOf(samples, before, seconds, flags.by);
        before = samples;
        if (output.json) print(JSON.stringify(frame));
        else if (redraws) await terminal.write(screen.draw(textOf(frame, flags.by), terminal.size()));
        else print(`${frames > 1 ? '\n' : ''}${textOf(frame, flags.by)}`);
        if (frames === flags.frames) break;
        await pauseUnless(signal, flags.every_s * 1_000);
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    } finally {
      if (redraws) await terminal.write(screen.leave);
    }
    return exitCodes.ok;
  },
});

/** A failure that may pass is returned, any other thrown. */
async function lookedAt(client: FisheryClient, signal: AbortSignal): Promise<readonly Sample[] | FisheryError> {
  try {
    return samplesOf(await client.server.metrics({ signal }));
  } catch (thrown) {
    if (thrown instanceof FisheryError && thrown.retryable) return thrown;
    throw thrown;
  }
}

const screen = {
  // The other screen, so that what was there before comes back; and no cursor that jumps about.
  enter: '\u001b[?1049h\u001b[?25l',
  leave: '\u001b[?25h\u001b[?1049l',
  /** Over what is there, so that nothing flickers; a line that is too long is cut, not wrapped. */
  draw(text: string, { columns, rows }: Readonly<{ columns: number; rows: number }>): string {
    const lines = text.split('\n').slice(0, rows - 1);
    return `\u001b[H${lines.map((line) => `${line.slice(0, columns)}\u001b[K\r\n`).join('')}\u001b[J`;
  },
};

const sumOf = (samples: readonly Sample[], name: string): number =>
  samples.reduce((sum, sample) => (sample.name === name ? sum + sample.value : sum), 0);

function frameOf(
  samples: readonly Sample[],
  before: readonly Sample[] | undefined,
  seconds: number,
  by: Grouping,
): Frame {
  const rate = (name: string) =>
    before === undefined
      ? null
      : Math.round((Math.max(0, sumOf(samples, name) - sumOf(before, name)) / seconds) * 10) / 10;
  const counted = by === 'machine' ? 'fishery_machine_ports' : 'fishery_pool_ports';
  const ports = samples.filter(({ name }) => name === counted);
  const reported = samples.filter(({ name }) => name === 'fishery_broker_ports');
  const names = [...new Set(ports.map(({ labels }) => labels[by] ?? ''))];
  const rows = names.map((name) =>
    rowOf(
      name,
      ports.filter(({ labels }) => (labels[by] ?? '') === name),
      reported.filter(({ labels }) => (labels[by] ?? '') === name),
    ),
  );
  return {
    at: new Date().toISOString(),
    revision: sumOf(samples, 'fishery_log_revision'),
    changes_per_s: rate('fishery_log_revision'),
    grants_per_s: rate('fishery_leases_granted_total'),
    refusals_per_s: rate('fishery_leases_refused_total'),
    watchers: sumOf(samples, 'fishery_watch_streams'),
    // The fullest first: that is what one looks for.
    rows: rows.toSorted((a, b) => b.used - a.used || (a.name < b.name ? -1 : 1)),
  };
}

function rowOf(name: string, members: readonly Sample[], reported: readonly Sample[]): Row {
  const of = (state: string) =>
    members.reduce((sum, { labels, value }) => (labels['state'] === state ? sum + value : sum), 0);
  const ports = members.reduce((sum, { value }) => sum + value, 0);
  const { exclusive, shared, cooling, blocked } = {
    exclusive: of('exclusive'),
    shared: of('shared'),
    cooling: of('cooling'),
    blocked: of('blocked'),
  };
  // Of those that the server grants from: how full the others are their machines alone know.
  const machine_allocated = of('machine_allocated');
  const grantedFrom = ports - machine_allocated;
  const used = grantedFrom === 0 ? 0 : (exclusive + shared + cooling + blocked) / grantedFrom;
  const taken = reported.filter(({ labels }) => !['free', 'withheld'].includes(labels['state'] ?? ''));
  const machine_used = reported.length === 0 ? null : taken.reduce((sum, { value }) => sum + value, 0);
  return { name, ports, used, exclusive, shared, cooling, blocked, free: of('free'), machine_allocated, machine_used };
}

const bar_cells = 20;
const bar = (part: number) => '#'.repeat(Math.round(part * bar_cells)).padEnd(bar_cells, '.');

function textOf(frame: Frame, by: Grouping): string {
  const rate = (value: number | null) => (value === null ? '-' : String(value));
  const head = [
    `${frame.at.slice(0, 19)}Z`,
    `revision ${frame.revision}`,
    `changes/s ${rate(frame.changes_per_s)}`,
    `grants/s ${rate(frame.grants_per_s)}`,
    `refusals/s ${rate(frame.refusals_per_s)}`,
    `watchers ${frame.watchers}`,
  ].join('   ');
  const table = tableOf<Row>(
    {
      [by]: ({ name }) => name,
      used: ({ used }) => `${bar(used)} ${`${Math.round(used * 1_000) / 10} %`.padStart(7)}`,
      ports: ({ ports }) => ports,
      exclusive: (row) => row.exclusive,
      shared: (row) => row.shared,
      cooling: (row) => row.cooling,
      blocked: (row) => row.blocked,
      free: (row) => row.free,
      'machine allocates': (row) => row.machine_allocated,
      'of these used': (row) => row.machine_used,
    },
    frame.rows,
  );
  return `${head}\n\n${frame.rows.length === 0 ? 'no machine owns a slice' : table}`;
}
