import type { GrantedReport } from '../wire/broker.ts';

/** What a broker's app counts, as far as it is read here: the registry of prom-client. */
type Registry = Readonly<{
  getSingleMetric(name: string):
    | Readonly<{
        get(): Promise<Readonly<{ values: readonly Value[] }>> | Readonly<{ values: readonly Value[] }>;
      }>
    | undefined;
}>;
type Value = Readonly<{ value: number; labels: Readonly<Partial<Record<string, string | number>>> }>;

/** Since the broker started. `refused`: requests for leases, by the code of their problem. */
export type GrantCounts = Readonly<{ granted: number; ended: number; refused: Readonly<Record<string, number>> }>;

/** For want of ports: what is wrong with a request says nothing of how full a machine is. */
const wantOfPorts: readonly string[] = ['no_slices', 'no_ports', 'no_common_address'];

export async function grantCounts(registry: Registry): Promise<GrantCounts> {
  const valuesOf = async (name: string) => (await registry.getSingleMetric(name)?.get())?.values ?? [];
  const sumOf = async (name: string) => (await valuesOf(name)).reduce((sum, { value }) => sum + value, 0);
  const refusals = await valuesOf('fishery_grant_refusals_total');
  return {
    granted: await sumOf('fishery_leases_granted_total'),
    ended: await sumOf('fishery_leases_ended_total'),
    refused: Object.fromEntries(refusals.map(({ value, labels }) => [String(labels.code), value])),
  };
}

/** The same, as the server is told of it. */
export async function grantCounters(registry: Registry): Promise<NonNullable<GrantedReport['counters']>> {
  const { granted, ended, refused } = await grantCounts(registry);
  return { granted, ended, refused: wantOfPorts.reduce((sum, code) => sum + (refused[code] ?? 0), 0) };
}
