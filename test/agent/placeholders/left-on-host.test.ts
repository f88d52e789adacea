import { beforeEach, describe, expect, it } from 'vitest';
import { desiredHost, type HostLoad } from '../../../src/agent/host/desired-host.ts';
import { describeStep, nothingRecorded, type Recorded, type RecordPart } from '../../../src/agent/host/host-state.ts';
import type { HostStep } from '../../../src/agent/host/host.ts';
import { carries, leftOnHost } from '../../../src/agent/placeholders/left-on-host.ts';
import { plan, planDown } from '../../../src/agent/host/plan.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { withFish, withoutFish } from '../../support/agent-values.ts';
import { address, FakeHost } from '../../support/fake-host.ts';

const load: HostLoad = {
  families: [4, 6],
  prefixes: ['198.51.100.0/24'] as Prefix[],
  hostAddresses: [],
  addresses: [address('198.51.100.10')],
  classes: [{ role: 'own', protocol: 'tcp', family: 4, size: 128 }],
  elements: new Map([['own_tcp4_128', new Set(['198.51.100.10 . 9088'])]]),
};
const nothing: RecordPart = { sysctls: [], written: [], addresses: [], tun: null, tunBefore: null, rules: [] };
const asRecord = ({ addresses, tun, rules }: RecordPart): Recorded => ({
  ...nothingRecorded,
  addresses: new Set(addresses),
  tun,
  rules: new Set(rules),
});

let host: FakeHost;
beforeEach(() => {
  host = new FakeHost();
});

const carryOut = async (steps: ReturnType<typeof plan>) =>
  host.carryOut(steps.filter((step): step is HostStep => !('part' in step)));
/** As an agent leaves it that set the host up with these settings. */
const setUp = (settings = withFish) =>
  carryOut(plan(host.state(), desiredHost(settings, load, nothingRecorded), nothingRecorded));
const left = (over: Partial<typeof withFish> = {}) =>
  leftOnHost(host.state(), { ...withFish, ...over }, load.addresses);

describe('the way down of whoever has no record', () => {
  it('leaves no moment without a way to the local table', async () => {
    await setUp();
    host.onStep = () => expect(host.familiesWithoutLocal()).toEqual([]);
    await carryOut(planDown(host.state(), nothingRecorded));
    expect(host.rules).toEqual(new FakeHost().rules);
  });

  it('adds no local rule where another one stands', async () => {
    await setUp();
    for (const family of ['-4', '-6']) host.rules.set(`${family} priority 5 lookup local`, 'foreign');
    const lines = planDown(host.state(), nothingRecorded).map(describeStep);
    expect(lines).toContain('ip -4 rule del priority 11 lookup local');
    expect(lines.filter((line) => line.includes('rule add'))).toEqual([]);
  });
});

describe('a host without a record', () => {
  it('that carries nothing: nothing is taken over, whatever else is on it', () => {
    host.addresses.add(address('198.51.100.10'));
    host.tun = 'up';
    expect(carries(host.state())).toEqual([]);
    expect(left()).toEqual(nothing);
  });

  it('that an agent with fish set up: the record is as it was, but for sysctls, and leads back', async () => {
    await setUp();
    expect(carries(host.state())).toEqual(['table inet fishery', '6 rules of protocol 70', '4 routes of protocol 70']);
    const part = left();
    expect(part).toEqual({
      sysctls: [],
      written: [],
      addresses: ['198.51.100.10'],
      tun: 'fishtun',
      tunBefore: null,
      rules: ['-4 priority 0 lookup local', '-6 priority 0 lookup local'],
    });
    await carryOut(planDown(host.state(), asRecord(part)));
    const before = new FakeHost().state();
    expect({ ...host.state(), sysctls: before.sysctls }).toEqual(before);
  });

  it('is taken over with another agent at work on it in the same way: nothing is left to do', async () => {
    await setUp();
    const recorded = asRecord(left());
    expect(plan(host.state(), desiredHost(withFish, load, recorded), recorded)).toEqual([]);
  });

  it('that an agent without fish set up: its address, and no device or rule', async () => {
    await setUp(withoutFish);
    expect(left()).toEqual({ ...nothing, addresses: ['198.51.100.10'] });
  });

  it('whose device is down, and so without routes, is still known by the rule that led there', async () => {
    await setUp();
    host.tun = 'down';
    for (const route of [...host.routes.keys()]) if (route.includes('fishtun')) host.routes.delete(route);
    expect(left().tun).toBe('fishtun');
  });

  it('whose slice went elsewhere meanwhile: the address of a lease that is still there is taken over', async () => {
    await setUp();
    expect(leftOnHost(host.state(), withFish, []).addresses).toEqual(['198.51.100.10']);
  });

  it('on which somebody has put a local rule back: that is what it is given back to', async () => {
    await setUp();
    host.rules.set('-4 priority 0 lookup local', 'foreign');
    expect(left().rules).toEqual(['-6 priority 0 lookup local']);
  });

  it('leaves an address of nobody here alone', async () => {
    await setUp();
    host.addresses.add(address('198.51.100.77'));
    expect(left().addresses).toEqual(['198.51.100.10']);
  });
});
