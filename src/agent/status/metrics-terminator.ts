import { Counter, Gauge, type Registry } from 'prom-client';
import { connectSeconds, outcomes } from '../../terminate/destinations.ts';
import { counterNames } from '../../terminate/protocol.ts';
import type { TerminatorStatus } from '../terminator-on-host.ts';

const prefix = 'fishery_agent_terminator';

/** Puts what the status says of the terminator into the registry. */
export function countTerminator(registry: Registry, status: TerminatorStatus): void {
  const registers = [registry];
  const put = (name: string, help: string, value: number) =>
    new Gauge({ name: `${prefix}_${name}`, help, registers }).set(value);
  const count = (name: string, help: string, value: number) =>
    new Counter({ name: `${prefix}_${name}_total`, help, registers }).inc(value);
  put('running', '1 while the terminator is at work and knows what to do', status.running ? 1 : 0);
  count('starts', 'How often this agent began with one', status.starts);
  put('claims', 'Leases that it claims', status.claims);
  put('claims_answered', 'Of those, the ones it has', status.answered);
  count('claims_refused', 'Grants that the server would not give', status.refused);
  const onDisk = new Gauge({
    name: `${prefix}_flow_log`,
    help: 'Its flow log on disk',
    labelNames: ['name'],
    registers,
  });
  for (const [name, value] of Object.entries(status.flow_log)) onDisk.set({ name }, value);
  const { stats } = status;
  if (!stats) return;
  put('connections', 'Connections that it has open', stats.open);
  put('connections_max', 'How many there may be', stats.connections_max);
  put('connections_connecting', 'Of those open, the ones whose origin has not answered yet', stats.connecting);
  put('clients', 'Clients that have connections', stats.clients);
  put('leases', 'Leases that connections are made from', stats.leases);
  put('memory_bytes', 'Memory of its process', stats.memory_bytes);
  put('pipes_held', 'Pipes for bulk that hold what a slow reader has not taken yet', stats.pipes_held);
  put('pipes_max', 'How many such pipes there may be; 0 where the kernel does not let it use any', stats.pipes_max);
  put('destinations', 'Destinations whose reachability is known one by one', stats.destinations_known);
  count('destinations_forgotten', 'Those that were forgotten for others', stats.destinations_forgotten);
  put('logged_connections', 'Ended connections that are remembered', stats.logged_ended);
  const events = new Counter({
    ...{ name: `${prefix}_events_total`, help: 'What became of connections', labelNames: ['event'], registers },
  });
  for (const event of counterNames) events.inc({ event }, stats[event]);
  const bytes = new Counter({
    ...{ name: `${prefix}_bytes_total`, help: 'Bytes carried', labelNames: ['direction'], registers },
  });
  bytes.inc({ direction: 'up' }, stats.bytes_up);
  bytes.inc({ direction: 'down' }, stats.bytes_down);
  const attempts = new Counter({
    name: `${prefix}_destination_attempts_total`,
    help: 'Attempts to reach the destinations where most goes wrong, by outcome',
    labelNames: ['address', 'port', 'outcome'],
    registers,
  });
  const seconds = new Counter({
    name: `${prefix}_destination_connect_seconds_total`,
    help: 'How long connecting to those took, all attempts that succeeded together',
    labelNames: ['address', 'port'],
    registers,
  });
  for (const { address, port, connect_times, ...counts } of stats.destinations) {
    const destination = { address, port: String(port) };
    for (const outcome of outcomes) attempts.inc({ ...destination, outcome }, counts[outcome]);
    seconds.inc(destination, connect_times.sum_s);
  }
}

/** How long connecting took, as a histogram: it was counted elsewhere, and the library takes single observations only. */
export function connectTimesText({ stats }: TerminatorStatus): string {
  if (!stats) return '';
  const { counts, sum_s } = stats.total.connect_times;
  const name = `${prefix}_connect_seconds`;
  let sum = 0;
  const buckets = [...connectSeconds, '+Inf'].map(
    (bound, index) => `${name}_bucket{le="${bound}"} ${(sum += counts[index] ?? 0)}`,
  );
  return [
    `# HELP ${name} How long origins took to answer`,
    `# TYPE ${name} histogram`,
    ...buckets,
    `${name}_sum ${sum_s}`,
    `${name}_count ${sum}`,
    '',
  ].join('\n');
}
