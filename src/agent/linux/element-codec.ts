import { addressFromBigInt, addressToBytes, parseAddress, type Family } from '../../net/address.ts';
import { isPort } from '../../net/ports.ts';
import { concatKey, hostOrder32, portField } from '../../sys/nft-elements.ts';
import { hasUser, parseSetName, type SetClass } from '../sets.ts';

/**
 * Elements as the kernel has them. A concatenated key pads every field to four bytes: address, port (or echo identifier),
 * and where users are told apart the user id in host order. A `steer` set has its port in 32 bits (see ruleset.ts).
 */
export function encodeElement(set: string, key: string): Uint8Array {
  const wanted = classOf(set);
  const [addressText = '', portText = '', uidText] = key.split(' . ');
  const address = parseAddress(addressText);
  const port = Number(portText);
  if (!address.ok || !isPort(port) || portText === '') throw new Error(`"${key}" is no element of ${set}`);
  const portBytes = wanted.role === 'steer' ? Uint8Array.of(0, 0, port >>> 8, port) : portField(port);
  const uid = hasUser(wanted.role) ? [hostOrder32(Number(uidText))] : [];
  return concatKey(addressToBytes(address.value), portBytes, ...uid);
}

export function decodeElement(set: string, key: Uint8Array): string {
  const { role, family } = classOf(set);
  const size = family === 4 ? 4 : 16;
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  const port = view.getUint16(role === 'steer' ? size + 2 : size);
  const fields = [addressText(family, key.subarray(0, size)), port];
  return [...fields, ...(hasUser(role) ? [view.getUint32(size + 4, true)] : [])].join(' . ');
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
