import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { FirstGuard } from '../../../src/agent/guard/first-guard.ts';
import { nothingRecorded } from '../../../src/agent/host/host-state.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { withFish } from '../../support/agent-values.ts';
import { address, FakeHost } from '../../support/fake-host.ts';

let host: FakeHost;
let prefixes: readonly Prefix[];
let isBegun: boolean;
/** What was done to the host, and when the record was begun. */
let order: string[];
let first: FirstGuard;

beforeEach(() => {
  host = new FakeHost();
  [order, isBegun, prefixes] = [[], false, ['198.51.100.0/24' as Prefix]];
  host.onStep = (step) => order.push(step.do);
  first = new FirstGuard({
    host,
    stateFile: {
      get isBegun() {
        return isBegun;
      },
      recorded: nothingRecorded,
      record: () => {
        isBegun = true;
        order.push('record');
      },
      sliced: new Set([address('198.51.100.10')]),
      get prefixes() {
        return prefixes;
      },
    },
    settings: withFish,
    log: pino({ level: 'silent' }),
  });
});

describe('a host that had a guard and has none', () => {
  it('gets it by the pools that are remembered, shut, and nothing else', async () => {
    host.linkAddresses.add(address('198.51.100.10'));
    host.linkAddresses.add(address('198.51.100.1'));
    expect(await first.hold()).toBe(true);
    expect(order).toEqual(['record', 'load-ruleset']);
    expect(host.table?.text).toContain('add element inet fishery pool4 { 198.51.100.0/24 }');
    // It may be the way to the server; the other one has been of a slice.
    expect(host.table?.text).toContain('add element inet fishery host4 { 198.51.100.1 }');
    expect(host.guard()).toEqual({ stands: true, openForMs: 0 });
    expect(await first.hold()).toBe(false);
  });

  it('gets it again when somebody takes it away, or changes it', async () => {
    await first.hold();
    host.table = undefined;
    expect(await first.hold()).toBe(true);
    host.table = { text: null, sets: new Map() };
    expect(await first.hold()).toBe(true);
    expect(order).toEqual(['record', 'load-ruleset', 'load-ruleset', 'load-ruleset']);
  });

  it('keeps the table of somebody who knew more', async () => {
    host.table = { text: null, sets: new Map() };
    expect(await first.hold()).toBe(false);
    expect(order).toEqual([]);
  });

  it('is not changed where nothing is remembered', async () => {
    prefixes = [];
    expect(await first.hold()).toBe(false);
    expect([order, host.observations]).toEqual([[], 0]);
  });
});
