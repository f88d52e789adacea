import { DROP, FORWARD } from '../verdicts.ts';

/** Offsets into the IPv6 header (RFC 8200). */
export const IPV6_HEADER = 40;
export const PAYLOAD_LENGTH = 4;
export const NEXT_HEADER = 6;
export const HOP_LIMIT = 7;
export const SOURCE6 = 8;
export const DESTINATION6 = 24;

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION_OPTIONS = 60;
const UNIT = 8;
export const FRAGMENT_HEADER = 8;
export const FRAGMENT_IDENTIFICATION = 4;
/** A packet has four or five at the very most, if it means what it says. */
const headers_max = 8;
const NOWHERE = 0;

/**
 * The extension headers between an IPv6 header and what it carries. One object is used for all packets: what `walk` fills in is
 * true until the next. Options are not read: none of them says where something is.
 */
export class ExtensionHeaders {
  /** The IANA number of what follows them, and where it starts. */
  protocol = 0;
  transport = 0;
  /** Where the fragment header is; 0: there is none. */
  fragmentAt = NOWHERE;

  /**
   * From the header of type `first` at `firstAt`, in a packet that ends at `end`: FORWARD, or why it cannot be followed. Behind the
   * header of a fragment other than the first nothing is looked at: `protocol` is what it says. What a routing header forbids is
   * found nevertheless, for who only looks; where nothing is found `transport` is 0.
   */
  walk(view: DataView, first: number, firstAt: number, end: number): number {
    this.fragmentAt = NOWHERE;
    this.transport = NOWHERE;
    let forbidden = FORWARD;
    let next = first;
    let at = firstAt;
    for (let headers = 0; headers <= headers_max; headers++) {
      if (!isExtension(next)) {
        this.protocol = next;
        this.transport = at;
        return forbidden;
      }
      // For every router on the way, so it comes first or not at all (RFC 8200 4.1).
      if (next === HOP_BY_HOP && headers !== 0) return forbidden || DROP.bad_extension_headers;
      if (end - at < UNIT) return forbidden || DROP.truncated;
      // Type 0 was a way to send packets in circles (RFC 5095). One that is not used up says that the destination is not this one.
      if (next === ROUTING && (view.getUint8(at + 2) === 0 || view.getUint8(at + 3) !== 0))
        forbidden = DROP.routing_header;
      const bytes = next === FRAGMENT ? UNIT : (view.getUint8(at + 1) + 1) * UNIT;
      if (next === FRAGMENT) {
        if (this.fragmentAt !== NOWHERE) return forbidden || DROP.bad_extension_headers;
        this.fragmentAt = at;
        if (fragmentOffset(view, at) !== 0) {
          this.protocol = view.getUint8(at);
          this.transport = at + UNIT;
          return forbidden;
        }
      }
      next = view.getUint8(at);
      at += bytes;
      if (at > end) return forbidden || DROP.truncated;
    }
    return forbidden || DROP.bad_extension_headers;
  }
}

export const isExtension = (next: number): boolean =>
  next === HOP_BY_HOP || next === DESTINATION_OPTIONS || next === ROUTING || next === FRAGMENT;

/** Where a fragment was cut out, in bytes; 0 for the first. */
export const fragmentOffset = (view: DataView, fragmentAt: number): number => view.getUint16(fragmentAt + 2) & 0xfff8;
export const isCut = (view: DataView, fragmentAt: number): boolean => (view.getUint16(fragmentAt + 2) & 0xfff9) !== 0;
export const hasMoreFragments = (view: DataView, fragmentAt: number): boolean =>
  (view.getUint16(fragmentAt + 2) & 1) !== 0;
