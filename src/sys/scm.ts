import { EMFILE, EMSGSIZE, SOL_SOCKET } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';

const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_TRUNC = 0x20;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** SCM_MAX_FD: one more is EINVAL. */
export const descriptorsPerMessage_max = 253;
export const payloadBytes_max = 65_536;

/**
 * struct msghdr, struct iovec and struct cmsghdr in memory that does not move, because they point at one another. Bytes
 * of the caller are copied in and out: its arrays may lie in V8's heap, which does move.
 */
const payloadArea = new Uint8Array(new ArrayBuffer(payloadBytes_max));
const controlHeaderBytes = 16;
const control = new ArrayBuffer(controlHeaderBytes + 4 * (descriptorsPerMessage_max + 1));
const controlView = new DataView(control);
const passed = new Int32Array(control, controlHeaderBytes);
const vector = new DataView(new ArrayBuffer(16));
const header = new Uint8Array(new ArrayBuffer(56));
const headerView = new DataView(header.buffer);
const at = { vector: 16, vectorCount: 24, control: 32, controlBytes: 40, flags: 48 } as const;
let pointed = false;

/** Fills in the pointers once; not while the module loads, which must be harmless everywhere. */
function point(): void {
  if (pointed) return;
  const c = libc();
  vector.setBigUint64(0, c.addressOf(payloadArea), true);
  headerView.setBigUint64(at.vector, c.addressOf(new Uint8Array(vector.buffer)), true);
  headerView.setBigUint64(at.vectorCount, 1n, true);
  headerView.setBigUint64(at.control, c.addressOf(new Uint8Array(control)), true);
  pointed = true;
}

/**
 * Sends one message and, beside it, copies of descriptors over a SOCK_SEQPACKET socket; they stay open here as well. Bytes
 * sent, or -errno (-EPIPE when the other end is gone, -EAGAIN when it does not read, -ETOOMANYREFS).
 */
export function sendDescriptors(socket: number, payload: Uint8Array, descriptors: ArrayLike<number>): number {
  const count = descriptors.length;
  if (count > descriptorsPerMessage_max)
    throw new RangeError(`${count} descriptors; at most ${descriptorsPerMessage_max}`);
  // An empty message looks to the receiver like the end of the connection.
  if (payload.length === 0 || payload.length > payloadBytes_max)
    throw new RangeError(`a payload of ${payload.length} bytes; 1 to ${payloadBytes_max}`);
  point();
  payloadArea.set(payload);
  vector.setUint32(8, payload.length, true);
  passed.set(descriptors);
  controlView.setUint32(0, controlHeaderBytes + 4 * count, true);
  controlView.setInt32(8, SOL_SOCKET, true);
  controlView.setInt32(12, SCM_RIGHTS, true);
  headerView.setUint32(at.controlBytes, count === 0 ? 0 : controlHeaderBytes + ((4 * count + 7) & ~7), true);
  headerView.setUint32(at.flags, 0, true);
  const c = libc();
  const sent = c.sendmsg(socket, header, MSG_NOSIGNAL);
  return sent < 0 ? -c.errno() : sent;
}

/**
 * Receives one message into `payload`, and the descriptors that came with it, which are the caller's to close. `bytes` is
 * 0 when the other end has closed, or -errno (-EAGAIN). Descriptors or bytes that did not fit are gone for good: what did
 * arrive is closed again, and SysError thrown (EMFILE: RLIMIT_NOFILE; EMSGSIZE: `payload` is too small).
 */
export function receiveDescriptors(socket: number, payload: Uint8Array): { bytes: number; descriptors: number[] } {
  point();
  vector.setUint32(8, Math.min(payload.length, payloadBytes_max), true);
  controlView.setUint32(0, 0, true);
  headerView.setUint32(at.controlBytes, control.byteLength, true);
  headerView.setUint32(at.flags, 0, true);
  const c = libc();
  const bytes = c.recvmsg(socket, header, MSG_CMSG_CLOEXEC);
  if (bytes < 0) return { bytes: -c.errno(), descriptors: [] };
  const rights =
    headerView.getUint32(at.controlBytes, true) >= controlHeaderBytes &&
    controlView.getInt32(8, true) === SOL_SOCKET &&
    controlView.getInt32(12, true) === SCM_RIGHTS;
  const count = rights ? (controlView.getUint32(0, true) - controlHeaderBytes) >> 2 : 0;
  const descriptors = [...passed.subarray(0, count)];
  const flags = headerView.getUint32(at.flags, true);
  if ((flags & (MSG_CTRUNC | MSG_TRUNC)) !== 0) {
    descriptors.forEach(closeFd);
    throw (flags & MSG_CTRUNC) !== 0
      ? new SysError('recvmsg', EMFILE, 'descriptors were lost on the way; is RLIMIT_NOFILE reached?')
      : new SysError('recvmsg', EMSGSIZE, `a message of more than ${payload.length} bytes`);
  }
  payload.set(payloadArea.subarray(0, bytes));
  return { bytes, descriptors };
}
