import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { errorCodes } from '../src/api/errors.ts';
import { TlsListener } from '../src/api/tls.ts';
import { ApiWorld } from './support/api-world.ts';
import { root } from './support/tree.ts';

const Alerts = z.strictObject({
  groups: z.array(
    z.strictObject({
      name: z.string(),
      rules: z.array(
        z.strictObject({
          alert: z.string().regex(/^Fishery[A-Z][A-Za-z]+$/),
          expr: z.string(),
          for: z
            .string()
            .regex(/^\d+[sm]$/)
            .optional(),
          labels: z.strictObject({ severity: z.enum(['warning', 'critical']) }),
          annotations: z.strictObject({ summary: z.string(), description: z.string() }),
        }),
      ),
    }),
  ),
});
const Dashboard = z.looseObject({
  title: z.literal('Fishery'),
  templating: z.object({ list: z.array(z.looseObject({ name: z.string(), query: z.string() })) }),
  panels: z.array(
    z.looseObject({
      id: z.int(),
      title: z.string(),
      gridPos: z.object({ x: z.int(), y: z.int(), w: z.int(), h: z.int() }),
      targets: z.array(z.looseObject({ expr: z.string(), legendFormat: z.string() })).optional(),
    }),
  ),
});

const read = (path: string) => readFileSync(join(root, path), 'utf8');
const alerts = Alerts.parse(parse(read('ops/prometheus/alerts.yaml'))).groups.flatMap(({ rules }) => rules);
const dashboard = Dashboard.parse(JSON.parse(read('ops/grafana/fishery.json')));
const queries = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr, legendFormat }) => ({ title, expr, legendFormat })),
);

/** Words of the query language that stand where a name could. */
const words = new Set(
  ['sum', 'min', 'max', 'by', 'rate', 'increase', 'deriv', 'histogram_quantile', 'time', 'topk', 'bottomk'].concat([
    ...['and', 'or', 'unless', 'on', 'ignoring', 'group_left', 'label_values'],
  ]),
);

type Used = Readonly<{ metric: string; labels: readonly string[] }>;

/** The series that an expression names, with the labels that it selects by; and the labels that it groups by. */
function namesIn(expr: string): Readonly<{ series: readonly Used[]; grouped: readonly string[] }> {
  const grouped = [...expr.matchAll(/\b(?:by|without|on)\s*\(([^)]*)\)/g)].flatMap(([, list = '']) => listed(list));
  const rest = expr.replaceAll(/\b(?:by|without|on)\s*\([^)]*\)/g, ' ');
  const series = [...rest.matchAll(/([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?/g)]
    .filter(([, name = '', ,], index, all) => !words.has(name) && !isInside(rest, all[index]?.index ?? 0))
    .map(([, metric = '', selectors = '']) => ({
      metric,
      labels: [...selectors.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label = '']) => label),
    }));
  return { series, grouped };
}
const listed = (text: string): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

/** Whether the place is inside braces, brackets or quotes, where no series is named. */
function isInside(text: string, place: number): boolean {
  const before = text.slice(0, place);
  const open = (a: string, b: string) => before.split(a).length > before.split(b).length;
  return open('{', '}') || open('[', ']') || before.split('"').length % 2 === 0;
}

let world: ApiWorld;
/** The labels of every series that a server tells, by its name. */
const told = new Map<string, ReadonlySet<string>>();
beforeAll(async () => {
  const material = { cert: '', key: '', ca: undefined, expiresAtMs: 0 };
  world = await ApiWorld.open({ tls: new TlsListener({ material, clientCertificates: 'none', nameMachines: false }) });
  const registries = [world.app.metrics, new Registry()];
  collectDefaultMetrics({ register: registries[1]! });
  // The target's own labels, and what Prometheus says of every target.
  told.set('up', new Set(['instance', 'job']));
  for (const registry of registries)
    for (const metric of registry.getMetricsAsArray()) {
      const labels = new Set<string>([...((metric as { labelNames?: string[] }).labelNames ?? []), 'instance', 'job']);
      const { type } = await registry.getSingleMetric(metric.name)!.get();
      told.set(metric.name, labels);
      // prom-client has an enumeration for the type that its declarations tell as a number.
      if (String(type) !== 'histogram') continue;
      for (const part of ['count', 'sum']) told.set(`${metric.name}_${part}`, labels);
      told.set(`${metric.name}_bucket`, new Set([...labels, 'le']));
      told.delete(metric.name);
    }
});
afterAll(async () => world[Symbol.asyncDispose]());

/** What is wrong with the names in an expression. */
function flawsOf(expr: string): readonly string[] {
  const { series, grouped } = namesIn(expr);
  if (series.length === 0) return [`names nothing: ${expr}`];
  const known = new Set<string>();
  const flaws = series.flatMap(({ metric, labels }) => {
    const has = told.get(metric);
    if (has === undefined) return [`${metric} does not exist`];
    for (const label of has) known.add(label);
    return labels.filter((label) => !has.has(label)).map((label) => `${metric} has no label ${label}`);
  });
  return [...flaws, ...grouped.filter((label) => !known.has(label)).map((label) => `nothing has the label ${label}`)];
}

describe('the alert rules', () => {
  it.each(alerts.map(({ alert, expr }) => [alert, expr]))('%s names what a server tells', (_alert, expr) => {
    expect(flawsOf(expr)).toEqual([]);
  });

  it('have a name each, and say only what their expression keeps', () => {
    expect(new Set(alerts.map(({ alert }) => alert)).size).toBe(alerts.length);
    for (const { alert, expr, annotations } of alerts) {
      const { grouped, series } = namesIn(expr);
      const kept = grouped.length > 0 ? grouped : series.flatMap(({ metric }) => [...(told.get(metric) ?? [])]);
      const said = [...annotations.summary.matchAll(/\$labels\.(\w+)/g)].map(([, label = '']) => label);
      expect(kept, alert).toEqual(expect.arrayContaining(said));
    }
  });

  it('leave ports that machines grant themselves out of every whole that a part is compared with', () => {
    const wholes = alerts
      .flatMap(({ expr }) => expr.split('/').slice(1))
      .flatMap((part) => [...part.matchAll(/fishery_(?:pool|machine)_ports(?:\{[^}]*\})?/g)].map(([found]) => found));
    expect(wholes).toHaveLength(3);
    for (const whole of wholes) expect(whole).toContain('state!="machine_allocated"');
  });

  it('hear of every grant that is refused because the ports or slices do not suffice', () => {
    const refused = alerts.find(({ alert }) => alert === 'FisheryGrantsRefused')?.expr ?? '';
    const codes = /code=~"([^"]*)"/.exec(refused)?.[1]?.split('|') ?? [];
    expect(codes).toEqual(expect.arrayContaining(['no_ports', 'ports_kept_for_others', 'no_slices']));
    for (const code of codes) expect(errorCodes).toContain(code);
  });

  it('are about each thing that an operator must hear of', () => {
    const metrics = new Set(alerts.flatMap(({ expr }) => namesIn(expr).series.map(({ metric }) => metric)));
    for (const metric of [
      ...['fishery_pool_ports', 'fishery_machine_ports', 'fishery_pool_slices', 'fishery_pool_exhaustion_seconds'],
      ...['fishery_machine_wants_unmet_slices', 'fishery_slices_waiting_for_routers', 'fishery_router_behind_seconds'],
      ...['fishery_grant_refusals_total', 'fishery_grant_duration_seconds_bucket', 'fishery_agent_behind_seconds'],
      ...['fishery_machine_taken_total', 'fishery_leases_ending_oldest_seconds'],
      ...['fishery_slices_draining_oldest_seconds', 'fishery_epoch_in_doubt'],
      ...['fishery_feed_lag_revisions', 'fishery_watch_delay_seconds_bucket', 'fishery_store_writable'],
    ])
      expect(metrics).toContain(metric);
  });
});

describe('the dashboard', () => {
  it.each(queries.map(({ title, expr }) => [title, expr]))('%s: names what a server tells', (_title, expr) => {
    expect(flawsOf(expr)).toEqual([]);
  });

  it('takes the choices of its variables from what a server tells', () => {
    for (const { name, query } of dashboard.templating.list.filter(({ name: of }) => of !== 'datasource')) {
      const [, series = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(query) ?? [];
      expect(flawsOf(series), name).toEqual([]);
      expect([...(told.get(/^\w+/.exec(series)?.[0] ?? '') ?? [])], name).toContain(label);
    }
  });

  it('has panels that have an id each and do not lie on one another', () => {
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)}/${y + Math.floor(cell / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
  });
});

describe('the comparison', () => {
  it('finds a name, a label and a grouping that do not exist', () => {
    expect(flawsOf('rate(fishery_leases_grunted_total[5m]) > 1')).toEqual([
      'fishery_leases_grunted_total does not exist',
    ]);
    expect(flawsOf('fishery_pool_ports{pole="x", state="free"}')).toEqual(['fishery_pool_ports has no label pole']);
    expect(flawsOf('sum by (machine) (fishery_pool_ports)')).toEqual(['nothing has the label machine']);
    expect(flawsOf('fishery_grant_duration_seconds')).toEqual(['fishery_grant_duration_seconds does not exist']);
    expect(flawsOf('1 + 1')).toEqual(['names nothing: 1 + 1']);
  });
});
