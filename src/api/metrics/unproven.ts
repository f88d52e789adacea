import { Gauge, type Registry } from 'prom-client';
import type { Context } from '../context.ts';
import { seconds } from '../units.ts';
import { shared } from './looked-up.ts';

/** Machines with ending leases that have series of their own; the others are added up under one name. */
const machines_listed_max = 1_000;
const machines_counted_max = 5_000;
/** Leases that are counted at once, of all machines: some tens of milliseconds. */
const leases_counted_max = 100_000;
/** Pairs of pool and machine with series of their own. */
const places_listed_max = 1_000;
const others = '(other)';

type Unproven<L extends string> = Readonly<{ labels: Readonly<Record<L, string>>; count: number; since: number }>;

/** What waits for a proof that nobody uses it any more: that it does not get on is nowhere else to be seen. */
export function unprovenMetrics({ reader, clock }: Context, registry: Registry): void {
  const nowUs = () => clock.nowUs();
  const leases = shared(nowUs, async () => {
    const rows = await reader.leasesEnding(machines_counted_max, leases_counted_max);
    return bounded(
      rows.map(({ machine, leases: count, since }) => ({ labels: { machine }, count, since })),
      { machine: others },
      machines_listed_max,
    );
  });
  const slices = shared(nowUs, async () => {
    const rows = await reader.slicesDraining();
    return bounded(
      rows.map(({ pool, machine, slices: count, since }) => ({ labels: { pool, machine }, count, since })),
      { pool: others, machine: others },
      places_listed_max,
    );
  });

  pair(registry, nowUs, leases, ['machine'], {
    name: 'fishery_leases_ending',
    help:
      'Leases that ended and whose ports the agent of their machine has not proved empty: nobody is granted them. Counted to ' +
      'a hundred thousand, in equal shares of the machines.',
    oldest: 'Age of the one that has waited for longest for the proof that its ports are empty.',
  });
  pair(registry, nowUs, slices, ['pool', 'machine'], {
    name: 'fishery_slices_draining',
    help: 'Slices that are to leave their machine, and have not been proved empty.',
    oldest: 'Time since the one that drains for longest was to leave its machine.',
  });
}

/** How many there are, and the age of the oldest. What has none is left out. */
function pair<L extends string>(
  registry: Registry,
  nowUs: () => number,
  read: () => Promise<readonly Unproven<L>[]>,
  labelNames: L[],
  texts: Readonly<{ name: string; help: string; oldest: string }>,
): void {
  const registers = [registry];
  const gauge = (name: string, help: string, value: (unproven: Unproven<L>) => number) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        const found = await read();
        this.reset();
        for (const unproven of found) this.set(unproven.labels, value(unproven));
      },
    });
  gauge(texts.name, texts.help, ({ count }) => count);
  gauge(`${texts.name}_oldest_seconds`, texts.oldest, ({ since }) => seconds(Math.max(0, nowUs() - since)));
}

/** The first `max`, and all others as one. */
function bounded<L extends string>(
  all: readonly Unproven<L>[],
  labels: Readonly<Record<L, string>>,
  max: number,
): readonly Unproven<L>[] {
  const rest = all.slice(max);
  if (rest.length === 0) return all;
  const count = rest.reduce((sum, unproven) => sum + unproven.count, 0);
  const since = rest.reduce((oldest, unproven) => Math.min(oldest, unproven.since), Infinity);
  return [...all.slice(0, max), { labels, count, since }];
}
