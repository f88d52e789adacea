/** A packet as it was at one place, at an instant (µs since 1970). `bytes`: of the whole, of which `data` may be the beginning. */
export type CapturedPacket = Readonly<{ at: number; place: number; bytes: number; data: Uint8Array; comment: string }>;

/**
 * Four bytes of address family in front of each packet. Not LINKTYPE_RAW, which has none: libpcap reads only one interface of it
 * in a file, because its own number of that type is another.
 */
const LINKTYPE_NULL = 0;
/** As BSD has them, whose type this is. */
const [AF_INET, AF_INET6] = [2, 30];
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
const u32 = (...values: readonly number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const END_OF_OPTIONS = 0;

function option(code: number, text: string): Buffer {
  const value = Buffer.from(text);
  return Buffer.concat([u32((value.length * 0x1_0000 + code) >>> 0), padded(value)]);
}

function block(type: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const length = body.length + 12;
  return Buffer.concat([u32(type, length), body, u32(length)]);
}

/**
 * A capture of IP packets, in the form of pcapng (draft-ietf-opsawg-pcapng) that this machine's byte order makes; `places` are
 * its interfaces, by name. Instants are microseconds, as is the form's default.
 */
export function pcapng(places: readonly string[], packets: readonly CapturedPacket[]): Buffer {
  const section = block(0x0a0d0d0a, u32(0x1a2b3c4d, 0x0000_0001, 0xffff_ffff, 0xffff_ffff));
  const interfaces = places.map((name) => block(1, u32(LINKTYPE_NULL, 0), option(2, name), u32(END_OF_OPTIONS)));
  const captured = packets.map(({ at, place, bytes, data, comment }) =>
    block(
      6,
      u32(place, Math.floor(at / 2 ** 32), at % 2 ** 32, data.length + 4, bytes + 4),
      u32((data[0] ?? 0) >>> 4 === 6 ? AF_INET6 : AF_INET),
      padded(Buffer.from(data)),
      option(1, comment),
      u32(END_OF_OPTIONS),
    ),
  );
  return Buffer.concat([section, ...interfaces, ...captured]);
}
