import { beforeEach, describe, expect, it } from 'vitest';
import { chooseSteering } from '../../../src/agent/steering/choose.ts';
import { KeptLinks } from '../../../src/agent/steering/kept-links.ts';
import { OwnLinks } from '../../../src/agent/steering/link-store.ts';
import { SteeringLinks } from '../../../src/agent/steering/steering-links.ts';
import { SysError } from '../../../src/sys/errno.ts';
import { FakeBpf } from '../../support/fake-bpf.ts';

let kernel: FakeBpf;
let store: OwnLinks;
const links = (over: Partial<{ mark: number; devices: readonly string[] }> = {}) =>
  new SteeringLinks({
    calls: kernel,
    store,
    ...{ tun: 'fishtun', mark: 0x2a, markMask: 0xff, devices: ['up0'], ...over },
  });
beforeEach(() => {
  kernel = new FakeBpf();
  store = new OwnLinks((fd) => kernel.closeFd(fd));
});

describe('the links', () => {
  it('are attached, seen as current, and taken off', () => {
    expect(links().observe()).toEqual(new Map());
    links().attach('up0');
    expect(links().observe()).toEqual(new Map([['up0', 'current']]));
    expect(kernel.attached('up0')).toHaveLength(1);
    links().detach('up0');
    expect(links().observe()).toEqual(new Map());
    expect(kernel.attached('up0')).toEqual([]);
    // Neither the program's descriptor nor the link's is left.
    expect(kernel.openDescriptors).toBe(0);
  });

  it('tell a program that somebody detached, and attach again', () => {
    links().attach('up0');
    kernel.detachAll('up0');
    expect(links().observe()).toEqual(new Map([['up0', 'lost']]));
    links().attach('up0');
    expect(links().observe()).toEqual(new Map([['up0', 'current']]));
    expect(kernel.openDescriptors).toBe(1);
  });

  it.each([
    ['the TUN device is a new one', () => kernel.devices.set('fishtun', 70), {}],
    ['the mark is another one', () => {}, { mark: 0x2b }],
  ])('put the right program in place of the old one, without a gap, when %s', (_what, change, over) => {
    links().attach('up0');
    const [before] = kernel.attached('up0');
    change();
    expect(links(over).observe()).toEqual(new Map([['up0', 'stale']]));
    links(over).attach('up0');
    expect(links(over).observe()).toEqual(new Map([['up0', 'current']]));
    const [after] = kernel.attached('up0');
    expect(after?.link).toBe(before?.link);
    expect(after?.program).not.toBe(before?.program);
    expect(kernel.withoutProgram).toBe(0);
  });

  it('know a device that is gone, and one that came back under the same name', () => {
    links().attach('up0');
    kernel.removeDevice('up0');
    expect(links().observe()).toEqual(new Map([['up0', 'no-device']]));
    kernel.devices.set('up0', 30);
    expect(links().observe()).toEqual(new Map([['up0', 'lost']]));
    links().attach('up0');
    expect(kernel.attached('up0')).toHaveLength(1);
  });

  it('are refused in words of the kernel, and leave nothing open', () => {
    kernel.refuseAttach = -16;
    expect(() => links().attach('up0')).toThrow('bpf(LINK_CREATE): EBUSY (up0)');
    kernel.devices.delete('fishtun');
    expect(() => links().attach('up0')).toThrow('there is no device fishtun to steer to');
    expect(kernel.openDescriptors).toBe(0);
  });
});

describe('links in a keeper', () => {
  /** What a keeper has: it opens descriptors of its own, which are not counted here. */
  const inKeeper = new Map<number, { record: Uint8Array; fd: number }>();
  const keeper = {
    keep: (slot: number, record: Uint8Array, fd: number) => void inKeeper.set(slot, { record, fd }),
    remove: (slot: number) => void inKeeper.delete(slot),
    takeKept: (slot: number) => inKeeper.get(slot),
  };
  const agent = () => {
    const kept = new KeptLinks((fd) => kernel.closeFd(fd));
    kept.begin(keeper);
    return {
      kept,
      links: new SteeringLinks({
        calls: kernel,
        store: kept,
        ...{ tun: 'fishtun', mark: 0x2a, markMask: 0xff, devices: ['up0', 'a-long-name-000'] },
      }),
    };
  };
  beforeEach(() => {
    inKeeper.clear();
    kernel.devices.set('a-long-name-000', 9);
  });

  it('are found by a successor, who attaches nothing again', () => {
    const first = agent();
    first.links.attach('up0');
    first.links.attach('a-long-name-000');
    const second = agent();
    expect(second.links.observe()).toEqual(
      new Map([
        ['up0', 'current'],
        ['a-long-name-000', 'current'],
      ]),
    );
    expect([...inKeeper.keys()]).toEqual([128, 129]);
  });

  it('are told by a successor to be of another version, and replaced in their slot', () => {
    agent().links.attach('up0');
    kernel.devices.set('fishtun', 70);
    const { links: successor } = agent();
    expect(successor.observe().get('up0')).toBe('stale');
    successor.attach('up0');
    expect(inKeeper.size).toBe(1);
    expect(agent().links.observe().get('up0')).toBe('current');
  });

  it('are gone from the keeper once they are detached', () => {
    const { links: own } = agent();
    own.attach('up0');
    own.detach('up0');
    expect(inKeeper.size).toBe(0);
    expect(kernel.attached('up0')).toEqual([]);
  });
});

describe('how replies are steered', () => {
  const choose = (setting: 'auto' | 'ebpf' | 'nftables') => chooseSteering(setting, ['up0', 'later0'], kernel);

  it('is by a program where the host can, and by nftables when told so', () => {
    expect(choose('auto')).toMatchObject({ ok: true, value: { mode: 'ebpf' } });
    expect(choose('ebpf')).toMatchObject({ ok: true, value: { mode: 'ebpf', why: 'the settings say so' } });
    expect(choose('nftables')).toEqual({ ok: true, value: { mode: 'nftables', why: 'the settings say so' } });
    expect(kernel.openDescriptors).toBe(0);
    expect(kernel.attached('up0')).toEqual([]);
  });

  it.each([
    [
      'the process may not load programs',
      () => (kernel.refuseLoad = new SysError('bpf(PROG_LOAD)', 1)),
      /takes CAP_BPF and CAP_NET_ADMIN/,
    ],
    [
      'the verifier says no',
      () => (kernel.refuseLoad = new SysError('bpf(PROG_LOAD)', 13, 'R1 is bad')),
      /does not take the program: bpf\(PROG_LOAD\): EACCES \(R1 is bad\)/,
    ],
    ['the kernel is older than tcx', () => (kernel.refuseQuery = -22), /no tcx links on lo \(EINVAL\)/],
  ])('is by nftables when %s, and says why', (_what, meddle, why) => {
    meddle();
    const automatic = choose('auto');
    expect(automatic).toMatchObject({ ok: true, value: { mode: 'nftables' } });
    expect(automatic.ok && automatic.value.why).toMatch(why);
    const insisted = choose('ebpf');
    expect(insisted.ok ? '' : insisted.error).toMatch(why);
    expect(insisted.ok ? '' : insisted.error).toContain('set steering to auto or nftables');
  });
});
