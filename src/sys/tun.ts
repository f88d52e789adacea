import { AF_INET, EBUSY, EINVAL, O_CLOEXEC, O_NONBLOCK, O_RDWR, SOCK_CLOEXEC, SOCK_DGRAM } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNGETIFF = 0x800454d2;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
/** Requests about a device's number of one kind: to tell, and to change it. */
const QUEUE_LENGTH = { get: ['SIOCGIFTXQLEN', 0x8942], set: ['SIOCSIFTXQLEN', 0x8943] } as const;
const MTU = { get: ['SIOCGIFMTU', 0x8921], set: ['SIOCSIFMTU', 0x8922] } as const;

const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

const virtioNetHeaderBytes = 10;

/** What to ask for, best first. UDP segmentation came with Linux 6.2, and the kernel takes a set whole or not at all. */
const offloadSets: readonly Readonly<{ flags: number; names: readonly string[] }>[] = [
  { flags: 0x67, names: ['csum', 'tso4', 'tso6', 'uso4', 'uso6'] },
  { flags: 0x07, names: ['csum', 'tso4', 'tso6'] },
  { flags: 0x01, names: ['csum'] },
  { flags: 0x00, names: [] },
];

/**
 * Opens a TUN device (IP packets without Ethernet or protocol header), making it when it does not exist, and re-attaching
 * to a persistent one. The descriptor is non-blocking. With `offload` every packet read or written is preceded by a
 * struct virtio_net_hdr of 10 bytes, and may be larger than the MTU by the kinds in `offloads`; without it by nothing.
 *
 * Every setting is stated, also the absent ones: a persistent device remembers what its last owner had asked for.
 * Throws SysError: EBUSY (another process has it: have the descriptor passed, a second open never works), EPERM, EINVAL
 * (the name is bad, or belongs to a device that is no such TUN), ENOENT (no /dev/net/tun).
 */
export function openTun(
  name: string,
  o: { persist: boolean; offload: boolean },
): { fd: number; vnetHeaderBytes: 0 | 10; offloads: readonly string[] } {
  const fd = attach(name, o.offload ? IFF_VNET_HDR : 0);
  try {
    return { fd, ...settle(fd, name, o) };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** How many packets a device queues for who reads or sends them; `set` changes it. Throws SysError. */
export const queueLength = (name: string, set?: number): number => deviceNumber(name, QUEUE_LENGTH, set);

/** The largest packet that a device takes, in bytes; `set` changes it. Throws SysError. */
export const deviceMtu = (name: string, set?: number): number => deviceNumber(name, MTU, set);

/**
 * Gives a device the MTU of the narrowest of its neighbours, of those that are there. What is too large for one of them is
 * then found before it is in a TUN: behind it, the kernel would tell the source that the packet has by then. Throws SysError.
 */
export function fitMtu(name: string, neighbours: readonly string[]): void {
  const mtu = narrowestMtu(neighbours);
  if (mtu !== undefined) deviceMtu(name, mtu);
}

/** The MTU of the narrowest of these devices, in bytes; undefined when there is none of them. Throws SysError. */
export function narrowestMtu(names: readonly string[]): number | undefined {
  const mtus = names.map(mtuIfThere).filter((mtu) => mtu !== undefined);
  return mtus.length > 0 ? Math.min(...mtus) : undefined;
}

/** Whether there is a device of this name. */
export const hasDevice = (name: string): boolean => mtuIfThere(name) !== undefined;

function mtuIfThere(name: string): number | undefined {
  try {
    return deviceMtu(name);
  } catch (error) {
    if (error instanceof SysError) return undefined;
    throw error;
  }
}

function deviceNumber(name: string, kind: typeof QUEUE_LENGTH | typeof MTU, set: number | undefined): number {
  const c = libc();
  const request = interfaceRequest(name, 0);
  const view = new DataView(request.buffer);
  if (set !== undefined) view.setInt32(16, set, true);
  const socket = c.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) throw new SysError('socket', c.errno(), name);
  try {
    const [call, number] = set === undefined ? kind.get : kind.set;
    control(socket, call, number, request, name);
    return view.getInt32(16, true);
  } finally {
    closeFd(socket);
  }
}

/**
 * Goes on with a descriptor that another process opened and passed on: what came in meanwhile waits in it. As `openTun`
 * would have answered; undefined when it is no longer attached to that device (somebody has deleted it), or was opened
 * without the header that `offload` asks for. Throws SysError.
 */
export function retakeTun(
  fd: number,
  name: string,
  o: { persist: boolean; offload: boolean },
): { vnetHeaderBytes: 0 | 10; offloads: readonly string[] } | undefined {
  const request = interfaceRequest(name, 0);
  const wanted = Buffer.from(request.subarray(0, 16));
  // EBADFD: the device is gone.
  if (libc().ioctl(fd, TUNGETIFF, request) < 0) return undefined;
  const flags = new DataView(request.buffer, request.byteOffset).getUint16(16, true);
  if (!wanted.equals(request.subarray(0, 16)) || ((flags & IFF_VNET_HDR) !== 0) !== o.offload) return undefined;
  return settle(fd, name, o);
}

/** Makes a persistent TUN device go away; none by that name is fine. Throws SysError, EBUSY while somebody has it. */
export function removeTun(name: string): void {
  if (libc().ifNameToIndex(checkedName(name)) === 0) return;
  const fd = attach(name, 0);
  try {
    controlNumber(fd, 'TUNSETPERSIST', TUNSETPERSIST, 0, name);
  } finally {
    closeFd(fd);
  }
}

/** One packet (after its virtio header, if there is one) into `buffer`: bytes, or -errno (-EAGAIN when none waits). */
export function readInto(fd: number, buffer: Uint8Array): number {
  const c = libc();
  const bytes = c.read(fd, buffer, buffer.length);
  return bytes < 0 ? -c.errno() : bytes;
}

/**
 * Writes the first `bytes` of `buffer` as one packet: bytes, or -errno (-EINVAL when the header or the packet makes no
 * sense, -EIO while the device is down). Success does not mean that the packet was routed or passed by the firewall.
 */
export function writeFrom(fd: number, buffer: Uint8Array, bytes: number): number {
  if (bytes > buffer.length) throw new RangeError(`${bytes} bytes of a buffer of ${buffer.length}`);
  const c = libc();
  const written = c.write(fd, buffer, bytes);
  return written < 0 ? -c.errno() : written;
}

function settle(fd: number, name: string, o: { persist: boolean; offload: boolean }) {
  if (o.offload) control(fd, 'TUNSETVNETHDRSZ', TUNSETVNETHDRSZ, Int32Array.of(virtioNetHeaderBytes), name);
  const offloads = setOffloads(fd, name, o.offload);
  controlNumber(fd, 'TUNSETPERSIST', TUNSETPERSIST, o.persist ? 1 : 0, name);
  const vnetHeaderBytes: 0 | 10 = o.offload ? virtioNetHeaderBytes : 0;
  return { vnetHeaderBytes, offloads };
}

function attach(name: string, flags: number): number {
  const c = libc();
  // Not fs.openSync: Node closes what a worker opened that way when the worker ends, by a number that may be reused.
  const fd = c.open('/dev/net/tun', O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw new SysError('open', c.errno(), '/dev/net/tun');
  try {
    control(fd, 'TUNSETIFF', TUNSETIFF, interfaceRequest(name, IFF_TUN | IFF_NO_PI | flags), name);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

function setOffloads(fd: number, name: string, wanted: boolean): readonly string[] {
  const c = libc();
  for (const { flags, names } of wanted ? offloadSets : offloadSets.slice(-1))
    if (c.ioctlNumber(fd, TUNSETOFFLOAD, flags) >= 0) return names;
  throw new SysError('TUNSETOFFLOAD', c.errno(), name);
}

function control(fd: number, call: string, request: number, argument: Uint8Array | Int32Array, name: string): void {
  const c = libc();
  if (c.ioctl(fd, request, argument) < 0) throw new SysError(call, c.errno(), explain(c.errno(), name));
}

function controlNumber(fd: number, call: string, request: number, argument: number, name: string): void {
  const c = libc();
  if (c.ioctlNumber(fd, request, argument) < 0) throw new SysError(call, c.errno(), name);
}

const explain = (errno: number, name: string): string => (errno === EBUSY ? `${name}: another process has it` : name);

/** struct ifreq: the name, zero-terminated in 16 bytes, then the flags. */
export function interfaceRequest(name: string, flags: number): Uint8Array {
  const request = new Uint8Array(new ArrayBuffer(40));
  request.set(Buffer.from(checkedName(name)));
  new DataView(request.buffer).setUint16(16, flags, true);
  return request;
}

/** The kernel's rule for device names, and no `%`, which it would read as "pick a number". */
function checkedName(name: string): string {
  if (!/^[^\s/:%\0]{1,15}$/.test(name) || Buffer.byteLength(name) > 15 || name === '.' || name === '..')
    throw new SysError('TUNSETIFF', EINVAL, `"${name}" is not a device name`);
  return name;
}
