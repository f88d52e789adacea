/**
 * Puts other sockets under the records of placeholders in the first keeper of this network namespace: of TCP ones one of another
 * port, one that listens and one that shares its port, of UDP ones one of another port; as many as the argument says. Prints
 * how many it did.
 */
import { decodePlace } from '../../../src/agent/placeholder-records.ts';
import { connectKeeper } from '../../../src/keeper/client.ts';
import { keeperPath } from '../../../src/keeper/place.ts';
import { kinds } from '../../../src/keeper/protocol.ts';
import { SOCK_STREAM, SOL_SOCKET, SO_REUSEADDR } from '../../../src/sys/constants.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { libc } from '../../../src/sys/libc.ts';
import { openBound } from '../../../src/sys/placeholders.ts';
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
