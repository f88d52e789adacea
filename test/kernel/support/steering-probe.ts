/**
 * What a test of steering needs to do in the host's namespace, one thing per run; answers are JSON. Arguments:
 *
 *     links DEVICE                              identifiers of the links at ingress
 *     detach DEVICE                             detaches them all, as somebody with bpftool could
 *     hold MARK BINDING,ADDRESS,PORT,REMOTE,PORT …  connected placeholders, held until this process ends
 */
import { addressToBytes } from '../../../src/net/address.ts';
import { detachLinkById, ingressLinks } from '../../../src/sys/bpf.ts';
import { interfaceIndex } from '../../../src/sys/interfaces.ts';
import { openConnected4, openConnected6 } from '../../../src/sys/placeholders.ts';

const [what, ...rest] = process.argv.slice(2);

function links(): readonly number[] {
  const [device = ''] = rest;
  const found = ingressLinks(interfaceIndex(device));
  if (typeof found === 'number') throw new Error(`${device}: ${found}`);
  return found;
}

function hold(mark: number, placeholder: string): number {
  const [binding, address, port, remote, remotePort] = placeholder.split(',');
  const [own, other] = [addressToBytes(address as never), addressToBytes(remote as never)];
  const number = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  const ports = [Number(port), Number(remotePort)] as const;
  const how = binding as 'late' | 'explicit';
  return own.length === 4
    ? openConnected4(number(own), ports[0], number(other), ports[1], how, mark)
    : openConnected6(own, ports[0], other, ports[1], how, mark);
}

switch (what) {
  case 'links':
    console.log(JSON.stringify(links()));
    break;
  case 'detach':
    for (const id of links()) detachLinkById(id);
    console.log('[]');
    break;
  case 'hold': {
    const [mark, ...placeholders] = rest;
    console.log(JSON.stringify(placeholders.map((each) => hold(Number(mark), each))));
    setInterval(() => {}, 60_000);
    break;
  }
  default:
    throw new Error(`steering-probe: what is ${what}?`);
}
