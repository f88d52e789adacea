import { err, ok, type Result } from '../net/result.ts';
import {
  AF_NETLINK,
  EAGAIN,
  EINTR,
  EMSGSIZE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
  SO_RCVTIMEO,
  SO_SNDBUFFORCE,
} from './constants.ts';
import { closeFd } from './descriptors.ts';
import { SysError } from './errno.ts';
import { libc } from './libc.ts';
import {
  acknowledgementIn,
  MessageWriter,
  messagesIn,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLM_F_DUMP_INTR,
  type Acknowledgement,
  type Message,
} from './netlink-message.ts';
import { setOption } from './socket-options.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;

const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_TRUNC = 0x20;
/** struct sockaddr_nl: family, padding, port identifier, groups. */
const sockaddrBytes = 12;

/** The kernel answers within the call that asks; this is for when it does not. */
const replyTimeout_s = 10;
const interruptions_max = 100;
/** The kernel sends dumps in pieces of at most 32 kB, unless one object alone is larger. */
const receiveBytes = 256 * 1024;
/** Before SO_SNDBUFFORCE: below the default of net.core.wmem_default, so that small requests need no privilege. */
const sendBytesAssumed = 64 * 1024;

/**
 * A raw netlink socket for requests with acknowledgements and for dumps, synchronous: the kernel works inside send(),
 * so there is nothing to wait for. One thread at a time. Failures of the socket itself throw SysError; what the kernel
 * says about a request is returned.
 */
export class Netlink {
  readonly #fd: number;
  readonly #writer = new MessageWriter();
  readonly #received = new Uint8Array(new ArrayBuffer(receiveBytes));
  #sendBytes = sendBytesAssumed;

  constructor(protocol: number) {
    const c = libc();
    this.#fd = c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (this.#fd < 0) throw new SysError('socket', c.errno(), `netlink ${protocol}`);
    // The kernel's own words about an error, and not the whole request back with each.
    setOption(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    setOption(this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
    // What a dump is asked for is all that it answers: one routing table, say, and not all of them.
    setOption(this.#fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    const timeout = new Uint8Array(new ArrayBuffer(16));
    new DataView(timeout.buffer).setBigInt64(0, BigInt(replyTimeout_s), true);
    c.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
  }

  /** The writer, empty, for the next request. */
  start(): MessageWriter {
    this.#writer.reset();
    return this.#writer;
  }

  /**
   * Sends the request and waits until each message in `expected` (sequence numbers) has been answered, or any other
   * message of the request was refused: a batch that is refused as a whole says so about its first message only.
   * Returns the first refusal, or undefined when all went well.
   */
  exchange(expected: readonly number[]): Acknowledgement | undefined {
    const awaited = new Set(expected);
    const { firstSequence, sequence: lastSequence } = this.#writer;
    this.#send();
    let refusal: Acknowledgement | undefined;
    while (awaited.size > 0) {
      for (const message of this.#receive()) {
        // Answers to an earlier request, left behind when that one was given up, are none of ours.
        if (message.type !== NLMSG_ERROR || message.sequence < firstSequence || message.sequence > lastSequence)
          continue;
        const answer = acknowledgementIn(this.#received, message);
        if (answer.errno !== 0) refusal ??= answer;
        if (!awaited.delete(message.sequence) && answer.errno !== 0) return answer;
      }
    }
    return refusal;
  }

  /**
   * Sends a dump request and calls `visit` with every message of the answer; the bytes in `buffer` are valid during the
   * call only. `interrupted` says that the kernel's tables changed meanwhile: something may be missing or be there twice.
   */
  dump(visit: (message: Message, buffer: Uint8Array) => void): Acknowledgement & { interrupted: boolean } {
    const { sequence } = this.#writer;
    this.#send();
    let interrupted = false;
    for (;;) {
      for (const message of this.#receive()) {
        if (message.sequence !== sequence) continue;
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR)
          return { ...acknowledgementIn(this.#received, message), interrupted };
        visit(message, this.#received);
      }
    }
  }

  /**
   * Dumps until one reading was not disturbed by changes of the kernel's tables, at most `attempts_max` times. `collect` puts
   * what a message holds into `found`, which is empty at the start of each reading. Refusals are returned as they are; EINTR
   * when no reading was whole.
   */
  dumpWhole<T>(
    o: Readonly<{
      write: (writer: MessageWriter) => void;
      collect: (found: T[], buffer: Uint8Array, message: Message) => void;
      attempts_max: number;
      /** A sign of disturbance that the kernel gives none of. */
      isWhole?: (found: readonly T[]) => boolean;
    }>,
  ): Result<T[], Acknowledgement> {
    for (let attempt = 0; attempt < o.attempts_max; attempt++) {
      o.write(this.start());
      const found: T[] = [];
      const end = this.dump((message, buffer) => o.collect(found, buffer, message));
      if (end.errno !== 0 && end.errno !== EINTR) return err(end);
      if (end.errno === 0 && !end.interrupted && o.isWhole?.(found) !== false) return ok(found);
    }
    return err({ errno: EINTR, text: `changed during ${o.attempts_max} readings` });
  }

  /** The kernel's name for this socket: what listeners see beside a change that it made. */
  get portid(): number {
    return nameSocket(this.#fd);
  }

  close(): void {
    closeFd(this.#fd);
  }

  #send(): void {
    const c = libc();
    const { buffer, length } = this.#writer;
    // A request must fit into the socket's send buffer whole. The kernel doubles what it is given, for its own overhead.
    if (length > this.#sendBytes && setOption(this.#fd, SOL_SOCKET, SO_SNDBUFFORCE, length) === 0)
      this.#sendBytes = length;
    if (c.send(this.#fd, buffer, length, 0) < 0) throw new SysError('send', c.errno(), 'netlink');
  }

  #receive(): Generator<Message, void> {
    const c = libc();
    for (let interruptions = 0; ;) {
      const bytes = c.recv(this.#fd, this.#received, receiveBytes, MSG_TRUNC);
      if (bytes > receiveBytes) throw new SysError('recv', EMSGSIZE, `netlink: ${bytes} bytes in one message`);
      if (bytes >= 0) return messagesIn(this.#received, bytes);
      const errno = c.errno();
      if (errno === EINTR && ++interruptions < interruptions_max) continue;
      throw new SysError('recv', errno, errno === EAGAIN ? `netlink: no answer in ${replyTimeout_s} s` : 'netlink');
    }
  }
}

/** Has the kernel name a netlink socket, which until then is nobody to it, and returns the name: its port identifier. */
export function nameSocket(fd: number): number {
  const c = libc();
  const name = new Uint8Array(new ArrayBuffer(sockaddrBytes));
  name[0] = AF_NETLINK;
  // EINVAL for one that has a name already, by having sent something, is no matter.
  c.bind(fd, name, sockaddrBytes);
  if (c.getsockname(fd, name, Int32Array.of(sockaddrBytes)) < 0)
    throw new SysError('getsockname', c.errno(), 'netlink');
  return new DataView(name.buffer).getUint32(4, true);
}
