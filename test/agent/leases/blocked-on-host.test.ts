import { beforeEach, describe, expect, it } from 'vitest';
import { BlockedOnHost, recheck_every_ms, rechecked_max } from '../../../src/agent/leases/blocked-on-host.ts';
import { DesiredMachine } from '../../../src/agent/server/desired.ts';
import type { BlockedPorts } from '../../../src/wire/agent.ts';
import { desired, holder, instant, lease, slice } from '../../support/agent-values.ts';
import { FakeCgroups } from '../../support/fake-cgroups.ts';
import { FakeSockets } from '../../support/fake-sockets.ts';

let sockets: FakeSockets;
let cgroups: FakeCgroups;
let now: number;
let machine: DesiredMachine;
let blocked: BlockedOnHost;

const place = (first: number, over: Partial<BlockedPorts> = {}): BlockedPorts => ({
  slice: 'slice-1',
  generation: 1,
  protocol: 'tcp',
  ports: { first, last: first + 7 },
  ...over,
});
const later = () => {
  now += recheck_every_ms;
  return blocked.look(machine);
};

beforeEach(() => {
  sockets = new FakeSockets();
  cgroups = new FakeCgroups();
  now = 0;
  machine = new DesiredMachine('edge');
  blocked = new BlockedOnHost({ sockets, cgroups, isOurMark: (mark) => mark === 42, now: () => now });
});

describe('blocked ports', () => {
  const snapshot = (places: readonly BlockedPorts[], over: Parameters<typeof desired>[0] = {}) =>
    machine.reset(desired({ slices: [slice(1)], blocked: [...places], ...over }));

  it('are clear when no socket is on them any more, and looked at again only now and then', () => {
    snapshot([place(9_000), place(9_008)]);
    const stranger = sockets.add(9_003);
    expect(blocked.look(machine)).toEqual([place(9_008)]);
    machine.unblock([place(9_008)]);
    sockets.remove(stranger);
    now += recheck_every_ms - 1;
    expect(blocked.look(machine)).toEqual([]);
    now += 1;
    expect(blocked.look(machine)).toEqual([place(9_000)]);
  });

  it('are not clear while a socket is there in any state but TIME_WAIT, or on every address', () => {
    snapshot([place(9_000)]);
    const stranger = sockets.add(9_000, { state: 'listen', localAddress: '0.0.0.0' });
    expect(later()).toEqual([]);
    const closing = sockets.change(stranger, { state: 'fin-wait-2', inode: 0 });
    expect(later()).toEqual([]);
    sockets.change(closing, { state: 'time-wait' });
    expect(later()).toEqual([place(9_000)]);
  });

  it('do not mind the sockets of those who were in a shared block before, nor fish’s placeholders', () => {
    snapshot([place(9_000)], {
      holders: [holder('web', 2_001)],
      leases: [
        lease(5, {
          holder: 'web',
          ports: { first: 9_000, last: 9_007 },
          mode: 'shared',
          binding: 'late',
          state: 'active',
        }),
      ],
    });
    sockets.add(9_001, { uid: 2_001 });
    sockets.add(9_002, { uid: 0, mark: 42 });
    const stranger = sockets.add(9_003, { uid: 33 });
    expect(later()).toEqual([]);
    sockets.remove(stranger);
    expect(later()).toEqual([place(9_000)]);
  });

  it('have identifiers of the whole host where they are for echo', () => {
    snapshot([place(9_000, { protocol: 'icmp' })]);
    sockets.pings.push({ identifier: 9_004, uid: 0, inode: 7, localAddress: '192.0.2.1', family: 4 });
    expect(later()).toEqual([]);
    sockets.pings.pop();
    expect(later()).toEqual([place(9_000, { protocol: 'icmp' })]);
  });

  it('take turns when there are many', () => {
    const many = Array.from({ length: rechecked_max + 10 }, (_, index) => place(index * 8));
    snapshot(many);
    const found = [...later(), ...later()];
    expect(found.slice(0, many.length)).toEqual(many);
  });

  it('come with a lease that the kernel refused, and go with their slice', () => {
    snapshot([]);
    const change = { revision: machine.revision + 1, at: instant };
    const ports = { first: 9_000, last: 9_007 };
    machine.apply({ kind: 'lease', ...change, lease: lease(5, { ports, state: 'refused' }) });
    expect([...machine.blocked.values()]).toEqual([place(9_000)]);
    machine.apply({ kind: 'slice', ...change, revision: change.revision + 1, slice: slice(1, { generation: 2 }) });
    expect(machine.blocked.size).toBe(0);
  });
});
