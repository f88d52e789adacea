/** How many sockets hold a port of an address in this network namespace, by what the kernel says: ADDRESS FIRST LAST. */
import { SockDiag } from '../../src/sys/sock-diag.ts';

const [address = '', first = '', last = ''] = process.argv.slice(2);
const ports = { first: Number(first), last: Number(last) };
const diag = new SockDiag();
const [tcp = 0, udp = 0] = (['tcp', 'udp'] as const).map(
  (protocol) => diag.sockets({ protocol, family: 4, ports, address }).length,
);
console.log(JSON.stringify({ tcp, udp, icmp: diag.pingSockets({ identifiers: ports }).length }));
diag.close();
