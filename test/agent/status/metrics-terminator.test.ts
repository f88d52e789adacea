import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { connectTimesText, countTerminator } from '../../../src/agent/status/metrics-terminator.ts';
import type { TerminatorStatus } from '../../../src/agent/terminator-on-host.ts';
import { Terminate, terminateSettingsOf } from '../../../src/agent/settings/settings-terminate.ts';
import { ConnectionMemory, memoryBytes } from '../../../src/terminate/connection-memory.ts';
import { Terminator } from '../../../src/terminate/terminator.ts';

const sizes = { lasting: 1, ended: 1 };
const memory = new ConnectionMemory(new ArrayBuffer(memoryBytes(sizes)), sizes, 0);
const settings = terminateSettingsOf(Terminate.parse({ claims: [{ protocol: 'tcp' }] }));
const terminator = new Terminator(settings, 7_490, memory);
const [total] = [terminator.stats(1).total];
const status: TerminatorStatus = {
  ...{ running: true, starts: 2, pid: 7, uid: 2_000, session: 'session-1', claims: 2, answered: 1, refused: 3 },
  ...{ problem: null, growth: [], flow_log: { disk_bytes: 4_711 } },
  stats: {
    ...terminator.stats(1),
    ...{ accepted: 9, origin_resets: 4, bytes_up: 1_000, bytes_down: 2_000 },
    total: {
      ...total,
      connected: 3,
      connect_times: { counts: [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], sum_s: 12.5, max_s: 11 },
    },
    ...{ destinations_known: 7, destinations_forgotten: 5, pipes_held: 3 },
    destinations: [
      {
        ...{ ...total, address: '203.0.113.1', port: 443, refused: 6, connected: 2 },
        connect_times: { ...total.connect_times, sum_s: 0.75, max_s: 0.5 },
      },
    ],
  },
};

it('what the terminator did is in the metrics, by event, direction and destination', async () => {
  const registry = new Registry();
  countTerminator(registry, status);
  const text = await registry.metrics();
  for (const line of [
    'fishery_agent_terminator_running 1',
    'fishery_agent_terminator_claims_answered 1',
    'fishery_agent_terminator_flow_log{name="disk_bytes"} 4711',
    'fishery_agent_terminator_events_total{event="accepted"} 9',
    'fishery_agent_terminator_events_total{event="origin_resets"} 4',
    'fishery_agent_terminator_bytes_total{direction="down"} 2000',
    'fishery_agent_terminator_destination_attempts_total{address="203.0.113.1",port="443",outcome="refused"} 6',
    'fishery_agent_terminator_destination_attempts_total{address="203.0.113.1",port="443",outcome="connected"} 2',
    'fishery_agent_terminator_destination_connect_seconds_total{address="203.0.113.1",port="443"} 0.75',
    'fishery_agent_terminator_destinations 7',
    'fishery_agent_terminator_pipes_held 3',
    'fishery_agent_terminator_pipes_max 16',
    'fishery_agent_terminator_destinations_forgotten_total 5',
  ])
    expect(text).toContain(`${line}\n`);
});

it('how long connecting took is a histogram, whose classes include the smaller ones', () => {
  const lines = connectTimesText(status).split('\n');
  expect(lines).toContain('# TYPE fishery_agent_terminator_connect_seconds histogram');
  const classes = lines.filter((line) => line.includes('_bucket')).map((line) => line.split(' ').at(-1));
  expect(classes).toEqual(['1', '1', '2', '2', '2', '2', '2', '2', '2', '2', '3']);
  expect(lines).toContain('fishery_agent_terminator_connect_seconds_bucket{le="+Inf"} 3');
  expect(lines).toContain('fishery_agent_terminator_connect_seconds_sum 12.5');
  expect(lines).toContain('fishery_agent_terminator_connect_seconds_count 3');
});

it('one that does not answer has no figures of its own', async () => {
  const registry = new Registry();
  countTerminator(registry, { ...status, running: false, stats: null });
  const text = await registry.metrics();
  expect(text).toContain('fishery_agent_terminator_running 0\n');
  expect(text).not.toContain('events_total');
  expect(connectTimesText({ ...status, stats: null })).toBe('');
});
