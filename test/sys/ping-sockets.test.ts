import { expect, test } from 'vitest';
import { parsePingTable } from '../../src/sys/ping-sockets.ts';

const heading =
  '   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops';

test('ping sockets are read from the table of /proc, whose addresses are numbers of the machine', () => {
  const table = `${heading}
    0: 0A6433C6:0FA0 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 36012 2 0000000000000000 0
  159: 00000000:FFFF 0A7100CB:0000 01 00000000:00000000 00:00000000 00000000  1000        0 36013 2 0000000000000000 3
`;
  expect(parsePingTable(table, 4)).toEqual([
    { family: 4, localAddress: '198.51.100.10', identifier: 4000, uid: 0, inode: 36_012 },
    { family: 4, localAddress: '0.0.0.0', identifier: 65_535, uid: 1000, inode: 36_013 },
  ]);
});

test('and of IPv6', () => {
  const [local, remote] = ['B80D0120000000000000000010000000', '0'.repeat(32)];
  const table = `${heading}\n    1: ${local}:0FA1 ${remote}:0000 07 00000000:00000000 00:00000000 00000000 0 0 77 2 0 0\n`;
  expect(parsePingTable(table, 6)).toEqual([
    { family: 6, localAddress: '2001:db8::10', identifier: 4001, uid: 0, inode: 77 },
  ]);
});

test('an empty table has none', () => {
  expect(parsePingTable(`${heading}\n`, 4)).toEqual([]);
  expect(parsePingTable('', 6)).toEqual([]);
});
