import { Gauge, type Registry } from 'prom-client';
import { machineStates } from '../../wire/machines.ts';
import type { Context } from '../context.ts';
import { seconds } from '../units.ts';
import { firstOf, shared } from './looked-up.ts';

/** Machines whose agents are listed; more would be a page that nobody can use. */
const machines_listed_max = 5_000;

/** Whether machines live, and how far behind the log their agents are. */
export function machineMetrics({ reader, clock }: Context, registry: Registry): void {
  const registers = [registry];
  const nowUs = () => clock.nowUs();
  const machines = shared(nowUs, () => firstOf((page) => reader.machines({}, page), machines_listed_max));
  const unapplied = shared(nowUs, () => reader.oldestUnapplied(machines_listed_max));

  new Gauge({
    name: 'fishery_machines',
    help: 'Machines by state.',
    labelNames: ['state'],
    registers,
    async collect() {
      const listed = await machines();
      for (const state of machineStates)
        this.set({ state }, listed.filter((machine) => machine.state === state).length);
    },
  });
  new Gauge({
    name: 'fishery_machine_wants_unmet_slices',
    help: 'Slices that an active machine wants and lacks; machines that have all are left out.',
    labelNames: ['machine'],
    registers,
    async collect() {
      this.reset();
      for (const { id, state, wanting } of await machines()) {
        const missing = wanting.missing.reduce((sum, slices) => sum + slices, 0);
        if (state === 'active' && missing > 0) this.set({ machine: id }, missing);
      }
    },
  });
  new Gauge({
    name: 'fishery_agent_seen_age_seconds',
    help: 'Time since the last keepalive of the agent of a machine.',
    labelNames: ['machine'],
    registers,
    async collect() {
      this.reset();
      for (const { id, agent } of await machines())
        if (agent !== null) this.set({ machine: id }, seconds(Math.max(0, nowUs() - agent.seenAt)));
    },
  });
  new Gauge({
    name: 'fishery_agent_behind_seconds',
    help: 'Age of the oldest change that the agent of a machine has not said to have made true; 0: none.',
    labelNames: ['machine'],
    registers,
    async collect() {
      this.reset();
      for (const { machine, at } of await unapplied())
        this.set({ machine }, at === null ? 0 : seconds(Math.max(0, nowUs() - at)));
    },
  });
}
