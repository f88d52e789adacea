import { EAGAIN, ENOENT } from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';

/**
 * bpf(2), as far as steering needs it: a program for tc ingress, and links that attach it (tcx, Linux 6.6). The kernel's
 * `union bpf_attr` is one buffer, written anew for each call; bytes behind the fields of a command must be zero.
 */
const attributes = new Uint8Array(new ArrayBuffer(128));
const view = new DataView(attributes.buffer);

/** The one system call that the C library has no name for, and whose number differs between the two machines. */
const systemCalls: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };

const PROG_LOAD = 5;
const OBJ_GET_INFO_BY_FD = 15;
const PROG_QUERY = 16;
const LINK_CREATE = 28;
const LINK_UPDATE = 29;
const LINK_GET_FD_BY_ID = 30;
const LINK_DETACH = 34;

const PROG_TYPE_SCHED_CLS = 3;
const TCX_INGRESS = 46;
/** In front of all programs of the device when no other one is named. */
const F_BEFORE = 8;

const instructionBytes = 8;
const log_bytes = 65_536;
const logShown_chars_max = 2_000;
/** Programs on one device; the kernel allows 64. */
const links_max = 64;
const attempts_max = 16;

function bpf(command: number): number {
  const c = libc();
  const result = c.syscall(systemCalls[process.arch] ?? -1, command, attributes, attributes.length);
  return result < 0 ? -c.errno() : result;
}

/** Memory that does not move while the kernel follows a pointer to it. */
const still = (bytes: number): Uint8Array => new Uint8Array(new ArrayBuffer(bytes));

function pointer(at: number, buffer: Uint8Array): void {
  view.setBigUint64(at, libc().addressOf(buffer), true);
}

function text(value: string): Uint8Array {
  const bytes = still(value.length + 1);
  new TextEncoder().encodeInto(value, bytes);
  return bytes;
}

/**
 * Loads instructions (8 bytes each, host order) as a program for tc ingress; `name` is what `bpftool prog` shows, at most
 * 15 letters, digits, `_` and `.`. The descriptor is closed on exec. Throws SysError: EPERM without CAP_BPF and
 * CAP_NET_ADMIN, and with the end of the verifier's log where it was the verifier that refused.
 */
export function loadClassifier(instructions: Uint8Array, name: string, licence: string): number {
  const program = still(instructions.length);
  program.set(instructions);
  const license = text(licence);
  const load = (log: Uint8Array | null): number => {
    attributes.fill(0);
    view.setUint32(0, PROG_TYPE_SCHED_CLS, true);
    view.setUint32(4, program.length / instructionBytes, true);
    pointer(8, program);
    pointer(16, license);
    if (log) {
      view.setUint32(24, 1, true);
      view.setUint32(28, log.length, true);
      pointer(32, log);
    }
    new TextEncoder().encodeInto(name, attributes.subarray(48, 63));
    return bpf(PROG_LOAD);
  };
  // The verifier gives up when a signal waits for the thread, and can be asked again.
  const patiently = (log: Uint8Array | null): number => {
    let fd = load(log);
    for (let again = 0; fd === -EAGAIN && again < attempts_max; again++) fd = load(log);
    return fd;
  };
  // To write the log takes longer than all the rest, so only for somebody to read it.
  let fd = patiently(null);
  if (fd >= 0) return fd;
  const log = still(log_bytes);
  fd = patiently(log);
  if (fd >= 0) return fd;
  const said = new TextDecoder().decode(log).replace(/\0[^]*$/, '');
  throw new SysError('bpf(PROG_LOAD)', fd, said.trim().slice(-logShown_chars_max));
}

/**
 * Attaches a program at ingress of a device of this network namespace, in front of those that are there. The program stays
 * until the last descriptor of the link is closed. A descriptor, or -errno (-ENODEV: no such device, -EINVAL: no tcx
 * before Linux 6.6, -EEXIST: this very program is attached there).
 */
export function attachIngress(program: number, interfaceIndex: number): number {
  attributes.fill(0);
  view.setUint32(0, program, true);
  view.setUint32(4, interfaceIndex, true);
  view.setUint32(8, TCX_INGRESS, true);
  view.setUint32(12, F_BEFORE, true);
  return bpf(LINK_CREATE);
}

/** Puts another program in the place of a link's, without a packet that passes neither. 0, or -errno. */
export function replaceProgram(link: number, program: number): number {
  attributes.fill(0);
  view.setUint32(0, link, true);
  view.setUint32(4, program, true);
  return bpf(LINK_UPDATE);
}

/** Takes a link's program off its device, whoever else has the link open. 0, or -errno. */
export function detachLink(link: number): number {
  attributes.fill(0);
  view.setUint32(0, link, true);
  return bpf(LINK_DETACH);
}

/**
 * The index of the interface that a link is attached to: 0 once it is not any more (somebody detached it, or the device
 * is gone). Throws SysError.
 */
export function interfaceOfLink(link: number): number {
  // struct bpf_link_info: type, id, prog_id, and for tcx from byte 16 on the interface and the place.
  const info = still(64);
  attributes.fill(0);
  view.setUint32(0, link, true);
  view.setUint32(4, info.length, true);
  pointer(8, info);
  const result = bpf(OBJ_GET_INFO_BY_FD);
  if (result < 0) throw new SysError('bpf(OBJ_GET_INFO_BY_FD)', result, `link ${link}`);
  return new DataView(info.buffer).getUint32(16, true);
}

/**
 * Identifiers of the links at ingress of a device, in the order in which packets meet them; 0 for a program that was
 * attached without one. -errno where that cannot be asked: -EINVAL before Linux 6.6, -EPERM without CAP_NET_ADMIN,
 * -ENODEV.
 */
export function ingressLinks(interfaceIndex: number): readonly number[] | number {
  const ids = new Uint32Array(new ArrayBuffer(4 * links_max));
  const programs = still(4 * links_max);
  attributes.fill(0);
  view.setUint32(0, interfaceIndex, true);
  view.setUint32(4, TCX_INGRESS, true);
  pointer(16, programs);
  view.setUint32(24, links_max, true);
  pointer(40, new Uint8Array(ids.buffer));
  const result = bpf(PROG_QUERY);
  // A device on which nothing was ever attached.
  if (result === -ENOENT) return [];
  return result < 0 ? result : [...ids.subarray(0, view.getUint32(24, true))];
}

/** Detaches a link by its identifier, as `bpftool link detach` does. Throws SysError (EPERM without CAP_SYS_ADMIN). */
export function detachLinkById(id: number): void {
  attributes.fill(0);
  view.setUint32(0, id, true);
  const link = bpf(LINK_GET_FD_BY_ID);
  if (link < 0) throw new SysError('bpf(LINK_GET_FD_BY_ID)', link, `link ${id}`);
  const result = detachLink(link);
  closeFd(link);
  if (result < 0) throw new SysError('bpf(LINK_DETACH)', result, `link ${id}`);
}
