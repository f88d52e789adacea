import { describe, expect, it } from 'vitest';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import { goneIn } from '../../../src/agent/linux/units.ts';
import { units_asked_max, units_every_ms, UnitsOnHost } from '../../../src/agent/leases/units-on-host.ts';
import { desired, lease } from '../../support/agent-values.ts';

const reserved = (number: number, unit: string | undefined, state: 'active' | 'ending' = 'active') =>
  lease(number, { session: null, state, ...(unit === undefined ? {} : { unit }) });

describe('units of reservations', () => {
  it('are asked about now and then, each once, and leases of those that are gone are reported', async () => {
    const machine = new DesiredMachine('edge');
    machine.reset(
      desired({
        leases: [
          ...[reserved(1, 'a.service'), reserved(2, 'a.service'), reserved(3, 'b.service')],
          ...[reserved(4, undefined), reserved(5, 'c.service', 'ending')],
        ],
      }),
    );
    const asked: (readonly string[])[] = [];
    const warnings: string[] = [];
    let now = 0;
    let fails = false;
    const units = new UnitsOnHost({
      goneOf: async (names) => {
        asked.push(names);
        if (fails) throw new Error('no bus');
        return new Set(['a.service', 'c.service']);
      },
      log: { warn: (message) => warnings.push(message) },
      now: () => now,
    });
    expect((await units.look(machine)).map(({ lease: id, state }) => [id, state])).toEqual([
      ['lease-1', 'unit_gone'],
      ['lease-2', 'unit_gone'],
    ]);
    expect(await units.look(machine)).toEqual([]);
    fails = true;
    for (let look = 0; look < 2; look++) {
      now += units_every_ms;
      expect(await units.look(machine)).toEqual([]);
    }
    expect([asked.length, warnings]).toEqual([3, ['units of reservations cannot be looked at: no bus']]);
    expect(new Set(asked[0])).toEqual(new Set(['a.service', 'b.service']));
  });

  it('take turns when there are many', async () => {
    const machine = new DesiredMachine('edge');
    const count = units_asked_max + 5;
    machine.reset(
      desired({ leases: Array.from({ length: count }, (_, index) => reserved(index + 1, `u${index}.service`)) }),
    );
    const asked = new Set<string>();
    let now = 0;
    const units = new UnitsOnHost({
      goneOf: async (names) => {
        expect(names.length).toBeLessThanOrEqual(units_asked_max);
        for (const name of names) asked.add(name);
        return new Set();
      },
      log: { warn: () => {} },
      now: () => (now += units_every_ms),
    });
    await units.look(machine);
    await units.look(machine);
    expect(asked.size).toBe(count);
  });

  it('are gone when systemd knows no file of them and nothing of them runs, and not when they only stopped', () => {
    const shown = `Id=squid.service
Names=squid.service proxy.service
LoadState=loaded
ActiveState=inactive

Id=old.service
Names=old.service
LoadState=not-found
ActiveState=inactive

Id=orphan.service
Names=orphan.service
LoadState=not-found
ActiveState=active
`;
    const asked = ['squid.service', 'old.service', 'orphan.service', 'proxy.service', 'never.service'];
    expect([...goneIn(shown, asked)]).toEqual(['old.service']);
  });
});
