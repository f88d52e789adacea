import { headBytesOf } from './cut-packets.ts';
import { isIPv6Packet, transportOf6 } from './packets6.ts';

type Option = Readonly<{ kind: number; value: readonly number[] }>;

/** TCP options as a list; what comes behind the end of it, or makes no sense, is `rest`. */
function optionsOf(bytes: readonly number[]): { options: Option[]; rest: readonly number[] } {
  const [kind = 0, length = 0] = bytes;
  const hasLength = kind > 1;
  if (bytes.length === 0 || kind === 0 || (hasLength && (length < 2 || length > bytes.length)))
    return { options: [], rest: bytes };
  const whole = hasLength ? length : 1;
  const { options, rest } = optionsOf(bytes.slice(whole));
  return { options: [{ kind, value: hasLength ? bytes.slice(2, whole) : [] }, ...options], rest };
}

const lowered = ({ kind, value }: Option, max: number): Option => {
  const [high = 0, low = 0] = value;
  const isMore = kind === 2 && value.length === 2 && high * 256 + low > max;
  return isMore ? { kind, value: [max >>> 8, max & 255] } : { kind, value };
};

/**
 * A packet with the options of a SYN taken apart, those that announce a maximum segment size lowered, and put together again. Its
 * checksum is as it was: whoever sums it anew has the right one. Everything but SYNs is as it came.
 */
export function withLowerMss(packet: Uint8Array, max: number): Uint8Array {
  const { at, protocol } = isIPv6Packet(packet)
    ? transportOf6(packet)
    : { at: headBytesOf(packet), protocol: packet[9] ?? 0 };
  if (protocol !== 6 || ((packet[at + 13] ?? 0) & 2) === 0) return packet;
  const dataAt = at + ((packet[at + 12] ?? 0) >>> 4) * 4;
  const { options, rest } = optionsOf([...packet.subarray(at + 20, dataAt)]);
  const together = options
    .map((option) => lowered(option, max))
    .flatMap(({ kind, value }) => (kind === 1 ? [1] : [kind, value.length + 2, ...value]));
  return Uint8Array.from([...packet.subarray(0, at + 20), ...together, ...rest, ...packet.subarray(dataAt)]);
}
