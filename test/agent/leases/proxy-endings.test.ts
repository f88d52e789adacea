import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { ProxyEndings, type ProxyEnding } from '../../../src/agent/leases/proxy-endings.ts';
import { address } from '../../support/fake-host.ts';
import { FakeSockets } from '../../support/fake-sockets.ts';

const uid = 2_001;
let now: number;
let sockets: FakeSockets;
let endings: ProxyEndings;

beforeEach(() => {
  now = 0;
  sockets = new FakeSockets();
  endings = new ProxyEndings(sockets, { isOurMark: () => false, now: () => now, log: pino({ level: 'silent' }) });
});

/** Its ports are 9088 to 9215. */
const ending = (over: Partial<ProxyEnding> = {}): ProxyEnding => ({
  lease: 'lease-1',
  block: {
    address: address('198.51.100.10'),
    protocol: 'tcp',
    ports: { first: 9_088, last: 9_215 },
    mode: 'exclusive',
  },
  isOwn: (user) => user.uid === uid,
  mayHaveBeenOwn: (user) => user.inode === 0 && user.uid === 0,
  isCovered: () => false,
  isForced: true,
  ...over,
});
const lookLater = (ms: number) => {
  now += ms;
  return endings.look();
};

describe('a forced end', () => {
  it('cuts the sockets of the holder, each once, and waits for what is bound all the same', () => {
    sockets.add(9_100);
    sockets.add(9_101, { inode: 0, uid: 0, state: 'fin-wait-1' });
    sockets.add(9_102);
    sockets.boundExplicitly.add(9_102);
    endings.watch(ending());
    for (let looks = 0; looks < 5; looks++) expect(lookLater(2_000)).toEqual([]);
    expect(sockets.destroyed).toEqual([9_100, 9_101, 9_102]);
    expect(endings.waitsFor('lease-1')).toContain('(bound)');
    // What begins anew on it is cut anew.
    const [bound] = sockets.others;
    if (!bound) throw new Error('gone');
    sockets.change(bound, { state: 'listen' });
    lookLater(2_000);
    expect(sockets.destroyed.slice(3)).toEqual([9_102]);
    sockets.others.length = 0;
    expect(lookLater(2_000)).toEqual(['lease-1']);
  });

  it('cuts no stranger, and nothing that listens on all addresses; it waits for them', () => {
    const others = [sockets.add(9_103, { localAddress: '0.0.0.0', state: 'listen' }), sockets.add(9_104, { uid: 33 })];
    endings.watch(ending());
    expect(lookLater(0)).toEqual([]);
    expect(sockets.destroyed).toEqual([]);
    for (const socket of others) sockets.remove(socket);
    expect(lookLater(2_000)).toEqual(['lease-1']);
  });

  it("cuts nothing in a shared block that is a neighbour's, or that another lease of the holder covers", () => {
    const block = { ...ending().block, mode: 'shared' } as const;
    sockets.add(9_100);
    sockets.add(9_101, { uid: 2_002 });
    endings.watch(ending({ block, isCovered: () => true }));
    expect(lookLater(0)).toEqual(['lease-1']);
    expect(sockets.destroyed).toEqual([]);
    endings.watch(ending({ block }));
    expect(lookLater(0)).toEqual([]);
    expect(sockets.destroyed).toEqual([9_100]);
    expect(lookLater(50)).toEqual(['lease-1']);
  });

  it('that was not forced at first is looked at again at once', () => {
    sockets.add(9_100);
    endings.watch(ending({ isForced: false }));
    for (let looks = 0; looks < 8; looks++) lookLater(2_000);
    expect([sockets.destroyed, endings.nextLookInMs()]).toEqual([[], 2_000]);
    endings.watch(ending());
    expect(endings.nextLookInMs()).toBe(0);
    lookLater(0);
    // To hear of it once more is nothing new.
    endings.watch(ending({ isForced: false }));
    expect(sockets.destroyed).toEqual([9_100]);
    expect(lookLater(50)).toEqual(['lease-1']);
  });

  it('that the kernel will not help with goes on waiting', () => {
    const socket = sockets.add(9_100);
    sockets.destroyRefusal = -95;
    endings.watch(ending());
    expect(lookLater(0)).toEqual([]);
    sockets.remove(socket);
    expect(lookLater(50)).toEqual(['lease-1']);
  });
});
