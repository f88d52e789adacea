import { EPERM } from '../../../src/sys/constants.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { libc } from '../../../src/sys/libc.ts';
import { concatKey, NftElements, portField, protocolField, type ElementChange } from '../../../src/sys/nft-elements.ts';
import { processesOf, SockDiag, type SocketInfo } from '../../../src/sys/sock-diag.ts';
import { openDescriptors, plainSocket } from './sys-sockets.ts';

/** The kernel's tables of sets and sockets, for a test that works inside a namespace. */
let diag: SockDiag | undefined;
const sockDiag = (): SockDiag => (diag ??= new SockDiag());

let elements: NftElements | undefined;
const nft = (): NftElements => (elements ??= new NftElements('fs_test'));

export const tableOperations = {
  nftAdd: (set: string, keys: Uint8Array[]) => nft().add(set, keys),
  nftRemove: (set: string, keys: Uint8Array[], missing: 'refuse' | 'ignore') => nft().remove(set, keys, { missing }),
  nftRenew: (set: string, key: Uint8Array, timeoutMs: number) => nft().renew(set, key, timeoutMs),
  nftList: (set: string) => nft().list(set),
  nftElements: (set: string) => nft().elements(set),
  nftCommit: (changes: readonly ElementChange[]) => nft().commit(changes),
  nftRefused: (table: string, set: string) => new NftElements(table).list(set),
  /** Floods UDP through a rule that drops when `alive` lacks `key`, renewing all the while; datagrams refused. */
  nftFlood(key: Uint8Array, forMs: number) {
    const socket = plainSocket({ address: '198.51.100.10', port: 9400, protocol: 'udp', remote: ['203.0.113.1', 9] });
    const [c, end] = [libc(), Date.now() + forMs];
    const counts = { sent: 0, dropped: 0, renewals: 0 };
    while (Date.now() < end) {
      nft().renew('alive', key, 2000);
      counts.renewals++;
      for (let i = 0; i < 20; i++) {
        if (c.send(socket, key, key.length, 0) >= 0) counts.sent++;
        else if (c.errno() === EPERM) counts.dropped++;
      }
    }
    closeFd(socket);
    return counts;
  },
  /** Adds `count` blocks of 16 ports, lists them, removes them; how many the kernel had each time, and the leak. */
  nftMany(set: string, count: number) {
    const before = openDescriptors();
    const keys = Array.from({ length: count }, (_, i) =>
      concatKey(Uint8Array.of(10, i >>> 16, i >>> 8, i), protocolField(6), portField((i & 0xfff) << 4)),
    );
    const mine = new NftElements('fs_test');
    mine.add(set, keys);
    const texts = new Set(mine.list(set).map((key) => Buffer.from(key).toString('hex')));
    const found = keys.filter((key) => texts.has(Buffer.from(key).toString('hex'))).length;
    mine.remove(set, keys);
    const left = mine.list(set).length;
    mine.close();
    return { listed: texts.size, found, left, leak: openDescriptors() - before };
  },

  sockets: (q: Parameters<SockDiag['sockets']>[0]) => sockDiag().sockets(q),
  pingSockets: (first: number, last: number) => sockDiag().pingSockets({ identifiers: { first, last } }),
  destroy: (socket: SocketInfo) => sockDiag().destroy(socket),
  /** Opens and uses many of them; the change in open descriptors. */
  diagLeak(rounds: number): number {
    const before = openDescriptors();
    for (let i = 0; i < rounds; i++) {
      const mine = new SockDiag();
      mine.sockets({ protocol: 'udp', family: 4, ports: { first: 1, last: 1 } });
      mine.close();
    }
    return openDescriptors() - before;
  },
  processesOf: (inodes: number[]) => processesOf(new Set(inodes)),
};
