import { Counter, Gauge, Registry } from 'prom-client';
import { driftKinds } from '../host/host-state.ts';
import { connectTimesText, countTerminator } from './metrics-terminator.ts';
import type { AgentStatus } from './status.ts';

/** Prometheus text of one status. Names say their unit; what only grows ends in `_total`. */
export async function metricsText(status: AgentStatus): Promise<string> {
  const registry = new Registry();
  const gauge = <L extends string>(name: string, help: string, labels: readonly L[] = []): Gauge<L> =>
    new Gauge({ name: `fishery_agent_${name}`, help, labelNames: [...labels], registers: [registry] });
  const count = <L extends string>(name: string, help: string, labels: readonly L[] = []): Counter<L> =>
    new Counter({ name: `fishery_agent_${name}`, help, labelNames: [...labels], registers: [registry] });
  const put = (name: string, help: string, value: number) => gauge(name, help).set(value);

  put('guard_stands', '1 while the guard is in the kernel, open or shut', status.guard.stands ? 1 : 0);
  put('guard_open', '1 while the guard lets packets with pool addresses out', status.guard.open ? 1 : 0);
  put('guard_open_seconds', 'How long it stays open if no keepalive is answered', status.guard.open_for_s);
  put('desired_revision', 'Revision of the log that the desired state includes', status.revision.desired);
  put('applied_revision', 'Revision up to which the host is as it should be', status.revision.applied);
  put('host_problem', '1 while the host is not as it should be', status.host.problem === null ? 0 : 1);
  put('server_problem', '1 while the server is not reached', status.server.problem === null ? 0 : 1);
  const drift = count('drift_repaired_total', 'What others did to the host and the agent undid', ['kind']);
  for (const kind of driftKinds) drift.inc({ kind }, status.host.drift[kind] ?? 0);
  if (status.steering)
    gauge('steering', '1 for how replies find fish: ebpf or nftables', ['mode']).set({ mode: status.steering.mode }, 1);
  put('reports_waiting', 'Things that the server has not heard yet', status.reports.waiting);
  count('reports_rejected_total', 'Reports that the server dropped').inc(status.reports.rejected);
  put('placeholders', 'Sockets that hold ports or echo identifiers of fish', status.placeholders.open);
  put('placeholders_max', 'How many there may be', status.placeholders.max);
  put(
    'placeholders_missing',
    'Of them, those that were lost with their keeper and are gone',
    status.placeholders.missing,
  );
  count('placeholders_reopened_total', 'Those that were lost with their keeper and opened again').inc(
    status.placeholders.reopened,
  );
  count('placeholders_disbelieved_total', 'Those found in a keeper that were not what their records said').inc(
    status.placeholders.disbelieved,
  );
  count('keepers_replaced_total', 'How often a keeper was lost').inc(status.keepers_replaced);
  const kept = gauge('keeper_placeholders', 'Placeholders by the keeper that they live in', [
    'keeper',
    'implementation',
  ]);
  const problem = gauge('keeper_problem', '1 while a keeper is lost', ['keeper']);
  for (const { number, implementation, placeholders, problem: lost } of status.keepers) {
    kept.set({ keeper: String(number), implementation }, placeholders);
    problem.set({ keeper: String(number) }, lost === null ? 0 : 1);
  }

  const leases = gauge('leases', 'Leases on this host', ['phase']);
  for (const [phase, count] of Object.entries(status.lease_counts)) leases.set({ phase }, count);
  const packets = count('packets_total', 'Packets by counter of the nftables table', ['counter']);
  const bytes = count('bytes_total', 'Bytes by counter of the nftables table', ['counter']);
  for (const [counter, value] of Object.entries(status.counters)) {
    packets.inc({ counter }, value.packets);
    bytes.inc({ counter }, value.bytes);
  }
  const { broker } = status;
  if (broker) {
    put('broker_running', '1 while the broker of this host runs', broker.running ? 1 : 0);
    put('broker_problem', '1 while something is wrong with the broker', broker.problem === null ? 0 : 1);
    put('broker_leases', 'Leases that the broker granted and that live on this host', broker.leases);
    count('broker_leases_granted_total', 'Leases that the broker granted').inc(broker.granted);
    count('broker_leases_ended_total', 'Leases of the broker whose ports were proven unused').inc(broker.ended);
    const refusals = count('broker_refusals_total', 'Requests for leases that the broker refused, by code', ['code']);
    for (const [code, value] of Object.entries(broker.refused)) refusals.inc({ code }, value);
    put('broker_connections', 'Connections to the socket of the broker', broker.connections);
    put('broker_report_problem', '1 while the server is not told', broker.report_problem === null ? 0 : 1);
    if (broker.told_s_ago !== null)
      put('broker_told_seconds', 'How long ago the server was last told what the broker granted', broker.told_s_ago);
    if (broker.untold !== null)
      put('broker_changes_untold', "Changes in the broker's log that the server has not heard of", broker.untold);
    count('broker_reports_rejected_total', 'Leases of the broker that the server did not take').inc(broker.rejected);
  }
  if (status.fish) {
    put('fish_running', '1 while fish runs', status.fish.running ? 1 : 0);
    count('fish_starts_total', 'How often fish was started').inc(status.fish.starts);
    put('fish_claims', 'Leases that fish claims', status.fish.claims);
    put('fish_claims_answered', 'Of those, the ones it has', status.fish.answered);
    count('fish_claims_refused_total', 'Grants that the server would not give').inc(status.fish.refused);
    const growth = (name: string, help: string) => gauge(`fish_growth_${name}`, help, ['claim']);
    const [ports, portsMax] = [
      growth('ports', 'Ports of a claim that may grow'),
      growth('ports_max', 'Ports it may have'),
    ];
    const busiest = growth(
      'busiest',
      'Flows toward the destination that has most of them, of the protocol of the claim',
    );
    const isShort = growth('problem', '1 while a claim has fewer ports than it needs');
    for (const each of status.fish.growth) {
      const { claim } = each;
      ports.set({ claim }, each.ports);
      portsMax.set({ claim }, each.ports_max);
      busiest.set({ claim }, each.busiest);
      isShort.set({ claim }, each.problem === null ? 0 : 1);
    }
    const stats = gauge('fish', 'What fish counts, by name', ['name']);
    for (const [name, value] of Object.entries(status.fish.stats)) stats.set({ name }, value);
  }
  if (!status.terminator) return registry.metrics();
  countTerminator(registry, status.terminator);
  return `${await registry.metrics()}${connectTimesText(status.terminator)}`;
}
