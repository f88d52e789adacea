import { Gauge, type Registry } from 'prom-client';
import type { Pool } from '../../leases/model.ts';
import { slotTotal } from '../../leases/slots.ts';
import type { UsageRow } from '../../leases/store.ts';
import type { Context } from '../context.ts';
import { Exhaustion } from './exhaustion.ts';
import { firstOf, shared } from './looked-up.ts';

/** Pools and machines that have series of their own; the others are added up under one name. */
const pools_listed_max = 500;
const machines_listed_max = 1_000;
const others = '(other)';

type Totals<L extends string> = Map<string, { labels: Readonly<Record<L, string>>; ports: number }>;

/** Adds ports to those with the same labels. */
function add<L extends string>(totals: Totals<L>, labels: Readonly<Record<L, string>>, ports: number): void {
  const key = JSON.stringify(labels);
  const total = totals.get(key);
  if (total) total.ports += ports;
  else totals.set(key, { labels, ports });
}

/** Adds what a row of the usage counts. What is full has 0 free ports, not no figure for them: ratios and alerts go by it. */
function addState<L extends string>(
  totals: Totals<L | 'state'>,
  labels: Readonly<Record<Exclude<L, 'state'>, string>>,
  { state, ports }: UsageRow,
): void {
  const of = (name: UsageRow['state']) => ({ ...labels, state: name }) as Readonly<Record<L | 'state', string>>;
  // Where the machine alone grants, nobody here knows what is free.
  if (state !== 'machine_allocated') add(totals, of('free'), 0);
  add(totals, of(state), ports);
}

/** How full it is: by pool and site, by machine, and when it will be over at this rate. */
export function portMetrics({ reader, clock }: Context, registry: Registry): void {
  const registers = [registry];
  const nowUs = () => clock.nowUs();
  // Whether the server grants from them now is a matter of a slice's way, and does not make them used.
  const usage = shared(nowUs, async () =>
    (await reader.usage()).map((row): UsageRow => ({ ...row, state: row.state === 'withheld' ? 'free' : row.state })),
  );
  const pools = shared(nowUs, () => firstOf((page) => reader.pools({}, page), pools_listed_max));
  const siteOf = (pool: Pool | undefined): string => pool?.labels['site'] ?? '';
  const poolLabels = async () => {
    const known = new Map((await pools()).map((pool) => [pool.id, pool]));
    return (id: string) => ({ pool: known.has(id) ? id : others, site: siteOf(known.get(id)) });
  };

  new Gauge({
    name: 'fishery_pool_ports',
    help:
      'Ports of slices that machines own, by pool and what they are; machine_allocated: the machine grants in them itself. ' +
      'Site: the label of the pool.',
    labelNames: ['pool', 'site', 'protocol', 'state'],
    registers,
    async collect() {
      const labelsOf = await poolLabels();
      const totals: Totals<'pool' | 'site' | 'protocol' | 'state'> = new Map();
      for (const row of await usage()) addState(totals, { ...labelsOf(row.pool), protocol: row.protocol }, row);
      this.reset();
      for (const { labels, ports } of totals.values()) this.set(labels, ports);
    },
  });
  new Gauge({
    name: 'fishery_machine_ports',
    help: 'Ports of slices that a machine owns, by what they are; machine_allocated: it grants in them itself.',
    labelNames: ['machine', 'protocol', 'state'],
    registers,
    async collect() {
      const rows = await usage();
      const listed = new Set([...new Set(rows.map(({ machine }) => machine))].sort().slice(0, machines_listed_max));
      const totals: Totals<'machine' | 'protocol' | 'state'> = new Map();
      for (const row of rows)
        addState(totals, { machine: listed.has(row.machine) ? row.machine : others, protocol: row.protocol }, row);
      this.reset();
      for (const { labels, ports } of totals.values()) this.set(labels, ports);
    },
  });
  new Gauge({
    name: 'fishery_pool_slices',
    help: 'Slices of a pool: with a machine, resting, or free for one.',
    labelNames: ['pool', 'site', 'state'],
    registers,
    async collect() {
      const counted = await Promise.all(
        (await pools()).map(async (pool) => ({ pool, ...(await reader.poolSlices(pool.id)) })),
      );
      this.reset();
      for (const { pool, assigned, cooling } of counted) {
        const labels = { pool: pool.id, site: siteOf(pool) };
        this.set({ ...labels, state: 'assigned' }, assigned);
        this.set({ ...labels, state: 'cooling' }, cooling);
        this.set({ ...labels, state: 'free' }, Math.max(0, Number(slotTotal(pool)) - assigned - cooling));
      }
    },
  });

  const estimates = new Map<string, Exhaustion>();
  new Gauge({
    name: 'fishery_pool_exhaustion_seconds',
    help:
      'Time until the ports that machines have of a pool are used up, if they go on being taken as in the last quarter of an ' +
      'hour. +Inf: their use does not rise. Absent: not known yet.',
    labelNames: ['pool', 'site', 'protocol'],
    registers,
    async collect() {
      const labelsOf = await poolLabels();
      const balances = balanceOf(await usage(), labelsOf);
      this.reset();
      for (const key of estimates.keys()) if (!balances.has(key)) estimates.delete(key);
      for (const [key, { labels, free, used }] of balances) {
        const estimate = estimates.get(key) ?? new Exhaustion();
        estimates.set(key, estimate);
        const sample = { at: nowUs(), free, used };
        estimate.note(sample);
        const left = estimate.secondsLeft(sample);
        if (left !== undefined) this.set(labels, left);
      }
    },
  });
}

type Balance = { labels: Readonly<Record<'pool' | 'site' | 'protocol', string>>; free: number; used: number };

/**
 * What is free of each pool and protocol, and what is not; ports that a stranger blocks are neither, and of those that a
 * machine grants in itself nobody here knows.
 */
function balanceOf(
  rows: readonly UsageRow[],
  labelsOf: (pool: string) => Readonly<{ pool: string; site: string }>,
): ReadonlyMap<string, Balance> {
  const balances = new Map<string, Balance>();
  for (const { pool, protocol, state, ports } of rows) {
    if (state === 'machine_allocated') continue;
    const labels = { ...labelsOf(pool), protocol };
    const key = JSON.stringify(labels);
    const balance = balances.get(key) ?? { labels, free: 0, used: 0 };
    balances.set(key, balance);
    if (state === 'free') balance.free += ports;
    else if (state !== 'blocked') balance.used += ports;
  }
  return balances;
}
