import { addressFromBigInt, addressToBytes, parseAddress, type Family } from '../../net/address.ts';
import { isPort } from '../../net/ports.ts';
import { concatKey, hostOrder32, portField } from '../../sys/nft-elements.ts';
import { parseSetName, senderIn, type SetClass } from '../host/sets.ts';

/**
 * Elements as the kernel has them. A concatenated key pads every field to four bytes: address, port (or echo identifier),
 * and where senders are told apart the user id or the 64 bits of the cgroup in host order. A `steer` set has its port in 32 bits (see ruleset.ts).
 */
export function encodeElement(set: string, key: string): Uint8Array {
  const wanted = classOf(set);
  const [addressText = '', portText = '', senderText = ''] = key.split(' . ');
  const address = parseAddress(addressText);
  const port = Number(portText);
  if (!address.ok || !isPort(port) || portText === '') throw new Error(`"${key}" is no element of ${set}`);
  const portBytes = wanted.role === 'steer' ? Uint8Array.of(0, 0, port >>> 8, port) : portField(port);
  return concatKey(addressToBytes(address.value), portBytes, ...senderBytes(wanted, senderText));
}

export function decodeElement(set: string, key: Uint8Array): string {
  const { role, family } = classOf(set);
  const size = family === 4 ? 4 : 16;
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  const port = view.getUint16(role === 'steer' ? size + 2 : size);
  const fields: (string | number)[] = [addressText(family, key.subarray(0, size)), port];
  const sender = senderIn(role);
  if (sender === 'uid') fields.push(view.getUint32(size + 4, true));
  if (sender === 'cgroup') fields.push(String(view.getBigUint64(size + 4, true)));
  return fields.join(' . ');
}

function senderBytes({ role }: SetClass, text: string): readonly Uint8Array[] {
  const sender = senderIn(role);
  if (sender === 'uid') return [hostOrder32(Number(text))];
  if (sender === null) return [];
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text), true);
  return [bytes];
}

const addresses_max = 10_000;
/** There are many blocks and few addresses, and a reading of the table decodes all of them. */
const addresses = new Map<string, string>();

function addressText(family: Family, bytes: Uint8Array): string {
  const raw = String.fromCharCode(...bytes);
  const known = addresses.get(raw);
  if (known !== undefined) return known;
  const value = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const text = addressFromBigInt(family, value);
  if (addresses.size >= addresses_max) addresses.clear();
  addresses.set(raw, text);
  return text;
}

function classOf(set: string): SetClass {
  const found = parseSetName(set);
  if (!found) throw new Error(`${set} is no set of leases`);
  return found;
}
