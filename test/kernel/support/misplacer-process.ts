/**
 * Puts other sockets under the records of placeholders in the first keeper of this network namespace: of TCP ones one of another
 * port, one that listens and one that shares its port, of UDP ones one of another port; as many as the argument says. Prints
 * how many it did. With `flows` as the second argument it is placeholders of flows over IPv4 in shared blocks: under the first goes
 * one toward another port, under the others one of the same 5-tuple, without a mark.
 */
import { decodePlace } from '../../../src/agent/placeholders/placeholder-records.ts';
import { connectKeeper } from '../../../src/keeper/client.ts';
import { keeperPath } from '../../../src/keeper/place.ts';
import { kinds } from '../../../src/keeper/protocol.ts';
import { SOCK_STREAM, SOL_SOCKET, SO_REUSEADDR } from '../../../src/sys/constants.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { libc } from '../../../src/sys/libc.ts';
import { openBound, openConnected4 } from '../../../src/sys/placeholders.ts';
import { familyConstant, sockaddrOf } from '../../../src/sys/sockaddr.ts';
import { setOption } from '../../../src/sys/socket-options.ts';

const wanted = Number(process.argv[2]);
const connected = connectKeeper(keeperPath(0));
if (!connected.ok) throw new Error(connected.error);
const keeper = connected.value;

/** On the very port, once what holds it was closed. */
function tcpOn(address: Uint8Array, port: number, isListening: boolean): number {
  const c = libc();
  const fd = c.socket(familyConstant(address), SOCK_STREAM, 0);
  const name = sockaddrOf(address, port);
  if (!isListening) setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (c.bind(fd, name, name.length) < 0) throw new Error(`bind: ${c.errno()}`);
  if (isListening && c.listen(fd, 1) < 0) throw new Error(`listen: ${c.errno()}`);
  return fd;
}

/** See `KeptSockets`: whose it is, both addresses, both ports. */
function misplaceFlows(): number {
  const flows = [...keeper.list(kinds.flow)].slice(0, wanted);
  for (const [index, { slot, record }] of flows.entries()) {
    const view = new DataView(record.buffer, record.byteOffset);
    const [address, remote, port, remotePort] = [8, 12, 16, 18].map((at) =>
      at < 16 ? view.getUint32(at) : view.getUint16(at),
    ) as [number, number, number, number];
    keeper.drop(kinds.flow, [slot]);
    keeper.stats();
    const fd = openConnected4(address, port, remote, index === 0 ? remotePort + 1 : remotePort, 'late', 0);
    if (fd < 0) throw new Error(`no socket: ${fd}`);
    if (keeper.put(kinds.flow, slot, record, fd) < 0) throw new Error(keeper.problem);
    closeFd(fd);
  }
  keeper.stats();
  return flows.length;
}
if (process.argv[3] === 'flows') {
  console.log(`misplaced ${misplaceFlows()}`);
  process.exit(0);
}

const kept = [...keeper.list(kinds.bound)].flatMap((each) => {
  const place = decodePlace(each.record);
  return place && place.protocol !== 'icmp' ? [{ ...each, place }] : [];
});
const tcp = kept.filter(({ place }) => place.protocol === 'tcp').slice(0, wanted - 1);
const udp = kept.filter(({ place }) => place.protocol === 'udp').slice(0, 1);
let done = 0;
for (const [index, { slot, record, place }] of [...tcp, ...udp].entries()) {
  const { address, port, protocol } = place;
  let fd: number;
  if (protocol === 'udp' || index === 0) fd = openBound(address, 50_000 + index, protocol === 'udp' ? 'udp' : 'tcp', 0);
  else {
    keeper.drop(kinds.bound, [slot]);
    keeper.stats();
    fd = tcpOn(address, port, index === 1);
  }
  if (fd < 0) throw new Error(`no socket: ${fd}`);
  if (keeper.put(kinds.bound, slot, record, fd) < 0) throw new Error(keeper.problem);
  closeFd(fd);
  done++;
}
keeper.stats();
keeper.close();
console.log(`misplaced ${done}`);
