import { Gauge, type Registry } from 'prom-client';
import { steering } from '../../leases/model.ts';
import type { Context } from '../context.ts';
import { seconds } from '../units.ts';
import { firstOf, shared } from './looked-up.ts';

/** Routers that are listed; there are as many as load balancers. */
const routers_listed_max = 1_000;

/** How far behind routers are, and how much waits for them. */
export function routerMetrics({ reader, clock }: Context, registry: Registry): void {
  const registers = [registry];
  const nowUs = () => clock.nowUs();
  const routers = shared(nowUs, async () => {
    const listed = await firstOf((page) => reader.routers({}, page), routers_listed_max);
    return Promise.all(
      listed.map(async ({ id, appliedRevision }) => {
        const [oldest] = await reader.eventsAfter(appliedRevision, steering, 1);
        return { id, since: oldest?.at ?? null };
      }),
    );
  });
  const waiting = shared(nowUs, () => reader.slicesWaiting());

  new Gauge({
    name: 'fishery_router_behind_seconds',
    help: 'Age of the oldest change of routes that a router has not said to have applied; 0: none.',
    labelNames: ['router'],
    registers,
    async collect() {
      const listed = await routers();
      this.reset();
      for (const { id, since } of listed)
        this.set({ router: id }, since === null ? 0 : seconds(Math.max(0, nowUs() - since)));
    },
  });
  new Gauge({
    name: 'fishery_slices_waiting_for_routers',
    help: 'Slices whose route is being added or removed: no machine may use them before enough routers have followed.',
    labelNames: ['pool', 'route'],
    registers,
    async collect() {
      const counted = await waiting();
      this.reset();
      for (const { pool, route, slices } of counted) this.set({ pool, route }, slices);
    },
  });
}
