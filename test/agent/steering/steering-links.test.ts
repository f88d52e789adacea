import { beforeEach, describe, expect, it } from 'vitest';
import { chooseSteering } from '../../../src/agent/steering/choose.ts';
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
