import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import type { HostStep } from '../../../src/agent/host/host.ts';
import type { HostSettings } from '../../../src/agent/host/desired-host.ts';
import { HostKeeper } from '../../../src/agent/host/host-keeper.ts';
import { nothingRecorded, type Recorded, type RecordPart } from '../../../src/agent/host/host-state.ts';
import type { Element } from '../../../src/agent/host/sets.ts';
import type { Address } from '../../../src/net/address.ts';
import type { Prefix } from '../../../src/net/prefix.ts';
import { withFish, withoutFish } from '../../support/agent-values.ts';
import { address, FakeHost } from '../../support/fake-host.ts';
import { containing } from '../../support/matchers.ts';

let host: FakeHost;
let recorded: Recorded;
let sliced: ReadonlySet<Address>;
let keeper: HostKeeper;
let wanted: Map<string, Set<string>>;
let isBegun: boolean;
let addresses: ReturnType<typeof address>[];
let guardsMended: number;
let guardOpenForMs: number | undefined;
let settings: HostSettings;
/** In which order the host was changed and the record was written. */
let order: string[];

beforeEach(() => {
  host = new FakeHost();
  host.onStep = (step) => order.push(step.do);
  [recorded, wanted, guardsMended] = [nothingRecorded, new Map<string, Set<string>>(), 0];
  [guardOpenForMs, sliced] = [undefined, new Set()];
  isBegun = true;
  [addresses, order] = [[address('198.51.100.10')], []];
  settings = withoutFish;
  keeper = new HostKeeper({
    host,
    get settings() {
      return settings;
    },
    stateFile: {
      get isBegun() {
        return isBegun;
      },
      get recorded() {
        return recorded;
      },
      get sliced() {
        return sliced;
      },
      noteGuarded: (_prefixes, those) => {
        sliced = new Set([...sliced, ...those]);
      },
      record: (part: RecordPart) => {
        order.push('record');
        isBegun = true;
        const tun = part.tun ?? recorded.tun;
        recorded = { ...recorded, tun, addresses: new Set([...recorded.addresses, ...part.addresses]) };
      },
      forget: (part: RecordPart) => {
        order.push('forget');
        recorded = {
          ...recorded,
          tun: part.tun === null ? recorded.tun : null,
          addresses: new Set([...recorded.addresses].filter((each) => !part.addresses.includes(each))),
        };
      },
    },
    load: () => ({
      prefixes: ['198.51.100.0/24'] as Prefix[],
      addresses,
      classes: [...wanted.keys()].map(() => ({ role: 'own', protocol: 'tcp', family: 4, size: 128 }) as const),
      elements: wanted,
    }),
    poolOf: () => 'pool-a',
    guardOpenForMs: () => guardOpenForMs,
    mendGuard: () => {
      guardsMended++;
    },
    log: pino({ level: 'silent' }),
  });
});

const element: Element = { set: 'own_tcp4_128', key: '198.51.100.10 . 9088' };
const want = () => wanted.set(element.set, new Set([element.key]));

describe('keeping the host', () => {
  it('writes down what it changes before it changes it', async () => {
    await keeper.reconcile('changed');
    expect(order).toEqual(['record', 'load-ruleset', 'set-sysctl', 'add-address']);
    expect(keeper.hasAddress(address('198.51.100.10'))).toBe(true);
    expect(guardsMended).toBe(1);
  });

  it('begins a record before it changes anything, with what an agent left whose record is lost', async () => {
    await keeper.reconcile('changed');
    [isBegun, recorded, order] = [false, nothingRecorded, []];
    const steps = host.done.length;
    await keeper.reconcile('changed');
    expect([order, host.done.length]).toEqual([['record'], steps]);
    expect([...recorded.addresses]).toEqual(['198.51.100.10']);
    await keeper.reconcile('changed');
    expect(order).toEqual(['record']);
  });

  it('begins an empty record on a host that carries nothing', async () => {
    isBegun = false;
    host.addresses.add(address('198.51.100.10'));
    await keeper.reconcile('changed');
    expect(order.slice(0, 3)).toEqual(['record', 'record', 'load-ruleset']);
    expect(recorded.addresses.size).toBe(0);
  });

  it("leaves the host's own addresses in a pool alone, from the moment they are seen, and says so as long as it lasts", async () => {
    await keeper.reconcile('changed');
    expect(keeper.standingProblems).toEqual([]);
    host.linkAddresses.add(address('198.51.100.1'));
    await keeper.reconcile('changed');
    expect(host.table?.text).toContain('add element inet fishery host4 { 198.51.100.1 }');
    expect(keeper.standingProblems).toEqual([
      containing('198.51.100.1 is an ordinary address of this host and lies in pool pool-a'),
    ]);
    expect(keeper.repaired).toEqual(new Map());
    host.linkAddresses.clear();
    await keeper.reconcile('changed');
    expect(host.table?.text).not.toContain('198.51.100.1 ');
    expect(keeper.standingProblems).toEqual([]);
  });

  it('guards an address of a slice on a link, also when its last slice has left', async () => {
    host.linkAddresses.add(address('198.51.100.10'));
    await keeper.reconcile('changed');
    addresses = [];
    await keeper.reconcile('changed');
    expect(host.table?.text).not.toContain('add element inet fishery host4');
    expect(keeper.standingProblems).toEqual([]);
  });

  it('forgets only what it has undone', async () => {
    await keeper.reconcile('changed');
    addresses = [];
    order = [];
    await keeper.reconcile('changed');
    expect(order).toEqual(['remove-address', 'forget']);
    expect(keeper.hasAddress(address('198.51.100.10'))).toBe(false);
  });

  it('counts as drift what others did, and not what it does itself', async () => {
    await keeper.reconcile('changed');
    await keeper.reconcile('changed');
    addresses = [address('198.51.100.11')];
    await keeper.reconcile('changed');
    expect(keeper.repaired).toEqual(new Map());
    host.addresses.delete(address('198.51.100.11'));
    await keeper.reconcile('changed');
    expect(keeper.repaired).toEqual(new Map([['address', 1]]));
    expect(host.addresses).toContain('198.51.100.11');
  });

  it('does not call it drift when its own change was cut off and is completed', async () => {
    host.failOn = (step) => (step.do === 'add-address' ? 'no' : undefined);
    await expect(keeper.reconcile('changed')).rejects.toThrow('no');
    host.failOn = () => undefined;
    await keeper.reconcile('changed');
    expect(keeper.repaired).toEqual(new Map());
    expect(host.addresses).toContain('198.51.100.10');
  });

  it('tells when the table was made from nothing: its guard is shut', async () => {
    await keeper.reconcile('changed');
    host.table = undefined;
    await keeper.reconcile('changed');
    expect(guardsMended).toBe(2);
  });
});

describe('sysctls that cannot be set', () => {
  const refuse = (code: string | undefined) => {
    host.failOn = (step) => (step.do === 'set-sysctl' ? code : undefined);
  };

  it('keep nothing else from being so, and are a standing problem until they can be', async () => {
    refuse('EROFS');
    await keeper.reconcile('changed');
    expect(order).toEqual(['record', 'load-ruleset', 'add-address']);
    expect(keeper.standingProblems).toEqual([
      'sysctls cannot be set (EROFS): net.ipv4.ip_local_port_range = 1024 65535 (late-bound ports outside of it are not had). ' +
        '/proc/sys is read-only in this container: set them on the host beforehand, or run the container with --privileged',
    ]);
    expect([keeper.stopsFish, keeper.repaired.size]).toEqual([undefined, 0]);
    await keeper.reconcile('changed');
    expect(keeper.standingProblems).toHaveLength(1);
    expect(keeper.repaired.size).toBe(0);
    refuse(undefined);
    await keeper.reconcile('changed');
    expect(host.sysctls.get('net/ipv4/ip_local_port_range')).toBe('1024 65535');
    expect(keeper.standingProblems).toEqual([]);
  });

  it('are no problem any more when somebody else has set them', async () => {
    refuse('EACCES');
    await keeper.reconcile('changed');
    expect(keeper.standingProblems).toEqual([containing('cannot be set (EACCES)')]);
    host.sysctls.set('net/ipv4/ip_local_port_range', '1024 65535');
    await keeper.reconcile('changed');
    expect(keeper.standingProblems).toEqual([]);
  });

  it('stop fish where it needs them, and what depends on another waits for that', async () => {
    settings = { ...withFish, forwardsIpv6: true };
    host.sysctls.set('net/ipv6/conf/client0/accept_ra', '1').set('net/ipv6/conf/all/forwarding', '0');
    refuse('EROFS');
    await keeper.reconcile('changed');
    expect(order.filter((step) => step === 'set-sysctl')).toEqual([]);
    expect(keeper.stopsFish).toContain('net.ipv4.tcp_early_demux = 0 (replies do not find fish)');
    expect(keeper.stopsFish).not.toContain('ip_local_port_range');
    host.failOn = (step) => (step.do === 'set-sysctl' && step.key.endsWith('accept_ra') ? 'EROFS' : undefined);
    await keeper.reconcile('changed');
    expect([host.sysctls.get('net/ipv6/conf/all/forwarding'), keeper.stopsFish]).toEqual(['0', undefined]);
    refuse(undefined);
    await keeper.reconcile('changed');
    expect(host.sysctls.get('net/ipv6/conf/all/forwarding')).toBe('1');
  });
});

describe('the device of a fish that is wanted no more', () => {
  it('keeps nothing else from being done while somebody has it, and is known until it is gone', async () => {
    settings = withFish;
    await keeper.reconcile('changed');
    settings = withoutFish;
    host.failOn = (step) => (step.do === 'remove-tun' ? 'EBUSY' : undefined);
    for (let looks = 0; looks < 2; looks++) await keeper.reconcile('changed');
    expect(keeper.standingProblems).toEqual(['fish is not wanted, and its device cannot be removed: EBUSY']);
    expect([recorded.tun, keeper.hasAddress(address('198.51.100.10'))]).toEqual([withFish.tun, true]);
    expect([...host.rules.keys()].filter((rule) => rule.includes('lookup 100'))).toEqual([]);
    host.failOn = () => undefined;
    await keeper.reconcile('changed');
    expect([recorded.tun, host.tun, keeper.standingProblems]).toEqual([null, 'absent', []]);
    expect(keeper.repaired).toEqual(new Map());
  });
});

describe('IPv6 that the kernel will not have as it should be', () => {
  const isIpv6Address = (step: HostStep) => step.do === 'add-address' && step.address.includes(':');

  it('ends nothing but what was to follow of it, and is a problem until it will', async () => {
    [settings, addresses] = [withFish, [address('198.51.100.10'), address('2001:db8::10')]];
    host.failOn = (step) => (step.do === 'add-route' && step.route.startsWith('-6') ? 'EACCES' : undefined);
    await keeper.reconcile('changed');
    expect(keeper.standingProblems).toEqual(['IPv6 cannot be had as it should be: EACCES']);
    expect([...host.rules.keys()].filter((rule) => rule.startsWith('-6'))).toEqual([
      '-6 priority 0 lookup local',
      '-6 priority 32766 lookup main',
    ]);
    expect([...host.rules.keys()]).toContain('-4 priority 11 lookup local');
    expect(addresses.map((each) => keeper.hasAddress(each))).toEqual([true, false]);
    host.failOn = () => undefined;
    await keeper.reconcile('changed');
    expect(keeper.standingProblems).toEqual([]);
    expect(addresses.map((each) => keeper.hasAddress(each))).toEqual([true, true]);
    expect(keeper.repaired).toEqual(new Map());
  });

  it('forgets nothing of it that was not undone', async () => {
    addresses = [address('198.51.100.10'), address('2001:db8::10')];
    await keeper.reconcile('changed');
    addresses = [];
    host.failOn = (step) => (step.do === 'remove-address' && step.address.includes(':') ? 'EACCES' : undefined);
    await keeper.reconcile('changed');
    expect([...recorded.addresses]).toEqual(['2001:db8::10']);
    host.failOn = () => undefined;
    await keeper.reconcile('changed');
    expect([recorded.addresses.size, host.addresses.has(address('2001:db8::10'))]).toEqual([0, false]);
  });

  it('is left alone while it is switched off, which is said where slices need it', async () => {
    addresses = [address('198.51.100.10'), address('2001:db8::10')];
    host.sysctls.set('net/ipv6/conf/all/disable_ipv6', '1');
    await keeper.reconcile('changed');
    expect(host.done.some(isIpv6Address)).toBe(false);
    expect(keeper.standingProblems).toEqual([
      containing('IPv6 is switched off on this host, which has slices of 2001:db8::10'),
    ]);
    host.sysctls.set('net/ipv6/conf/all/disable_ipv6', '0');
    await keeper.reconcile('changed');
    expect(host.done.some(isIpv6Address)).toBe(true);
  });
});

describe("the guard's pulse", () => {
  it.each([
    ['open for good', Infinity, undefined],
    ['open for good', Infinity, 20_000],
    ['open for longer than promised', 60_000, 20_000],
    ['open though nothing is promised', 20_000, 0],
    ['shut before its time', 0, 20_000],
  ])('is put right, and counted, when somebody else has set it: %s', async (_what, guardMs, promised) => {
    await keeper.reconcile('changed');
    host.guardMs = guardMs;
    guardOpenForMs = promised;
    await keeper.reconcile('changed');
    expect(guardsMended).toBe(2);
    expect(keeper.repaired).toEqual(new Map([['guard', 1]]));
  });

  it.each([
    ['left open by the agent before', 20_000, undefined],
    ['as promised', 19_990, 20_000],
    ['open for less: a keepalive is on its way', 10_000, 20_000],
    ['shut, as promised', 0, 0],
  ])('is let alone: %s', async (_what, guardMs, promised) => {
    await keeper.reconcile('changed');
    host.guardMs = guardMs;
    guardOpenForMs = promised;
    await keeper.reconcile('changed');
    expect(guardsMended).toBe(1);
  });
});

describe('elements', () => {
  it('of a set that the table lacks make it first', async () => {
    await keeper.reconcile('changed');
    want();
    await keeper.changeElements([element], []);
    expect(host.elements('own_tcp4_128')).toEqual([element.key]);
    expect(order.filter((step) => step === 'load-ruleset')).toHaveLength(2);
  });

  it('of a set that is there need no look at the host', async () => {
    await keeper.reconcile('changed');
    want();
    await keeper.changeElements([element], []);
    const { observations } = host;
    await keeper.changeElements([], [element]);
    await keeper.changeElements([element], []);
    expect(host.observations).toBe(observations);
    expect(host.elements('own_tcp4_128')).toEqual([element.key]);
  });

  it('keep their set when the last of them goes: the table is not loaded for each', async () => {
    want();
    await keeper.reconcile('changed');
    wanted.clear();
    order = [];
    await keeper.reconcile('changed');
    expect(order).toEqual(['remove-elements']);
  });
});
