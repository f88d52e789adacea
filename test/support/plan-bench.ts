import { type HostLoad } from '../../src/agent/host/desired-host.ts';
import {
  describeStep,
  nothingRecorded,
  type DesiredHost,
  type Recorded,
  type RecordPart,
  type Step,
} from '../../src/agent/host/host-state.ts';
import { plan } from '../../src/agent/host/plan.ts';
import { parseSetName, type SetClass } from '../../src/agent/host/sets.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { address, FakeHost } from './fake-host.ts';

export const setClass = (name: string): SetClass => {
  const found = parseSetName(name);
  if (!found) throw new Error(name);
  return found;
};

export const load = (over: Partial<HostLoad> = {}): HostLoad => ({
  families: [4, 6],
  prefixes: ['198.51.100.0/24'] as Prefix[],
  hostAddresses: [],
  addresses: [address('198.51.100.10')],
  classes: [setClass('own_tcp4_128')],
  elements: new Map([['own_tcp4_128', new Set(['198.51.100.10 . 9088'])]]),
  ...over,
});

export const transcript = (steps: readonly Step[]) => steps.map(describeStep);

/** A host and the record that belongs to it; what a runbook is carried out on. */
export class Bench {
  readonly host = new FakeHost();
  recorded: Recorded = nothingRecorded;

  async reach(desired: (recorded: Recorded) => DesiredHost): Promise<Step[]> {
    const steps = plan(this.host.state(), desired(this.recorded), this.recorded);
    await this.carryOut(steps);
    return steps;
  }

  async carryOut(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      if ('part' in step)
        this.recorded = step.do === 'record' ? added(this.recorded, step.part) : removed(this.recorded, step.part);
      else await this.host.carryOut([step]);
    }
  }
}

const added = (recorded: Recorded, part: RecordPart): Recorded => ({
  sysctls: new Map([...recorded.sysctls, ...part.sysctls]),
  written: new Map([...recorded.written, ...part.written]),
  addresses: new Set([...recorded.addresses, ...part.addresses]),
  tun: part.tun ?? recorded.tun,
  tunBefore: part.tunBefore ?? recorded.tunBefore,
  rules: new Set([...recorded.rules, ...part.rules]),
});
const removed = (recorded: Recorded, part: RecordPart): Recorded => ({
  sysctls: new Map([...recorded.sysctls].filter(([key]) => !part.sysctls.some(([gone]) => gone === key))),
  written: new Map([...recorded.written].filter(([key]) => !part.sysctls.some(([gone]) => gone === key))),
  addresses: new Set([...recorded.addresses].filter((each) => !part.addresses.includes(each))),
  tun: part.tun === recorded.tun ? null : recorded.tun,
  tunBefore: part.tunBefore === null ? recorded.tunBefore : null,
  rules: new Set([...recorded.rules].filter((rule) => !part.rules.includes(rule))),
});
