import { DROP, FORWARD } from '../verdicts.ts';

const END = 0;
const NO_OPERATION = 1;
const RECORD_ROUTE = 7;
const TIMESTAMP = 68;
const LOOSE_SOURCE_ROUTE = 131;
const STRICT_SOURCE_ROUTE = 137;

/**
 * Looks through the options of an IPv4 header, between two offsets (RFC 791 3.1): FORWARD, or why the packet goes no further.
 *
 * Who sets a source route has the packet, and the answer to it, go by hosts that a translation knows nothing of: dropped,
 * as RFC 7126 (4.3, 4.4) has everybody do. All others pass as they are, those that nobody knows as well. Record route and
 * timestamp are for a user to see where packets go, and tell the outside no more than the addresses of this host and of
 * routers between it and the client, so they pass, too; who minds has the host's firewall drop them.
 */
export function checkOptions(view: DataView, from: number, to: number): number {
  for (let at = from; at < to;) {
    const type = view.getUint8(at);
    if (type === END) return FORWARD;
    if (type === NO_OPERATION) {
      at++;
      continue;
    }
    const bytes = at + 1 < to ? view.getUint8(at + 1) : 0;
    if (bytes < 2 || at + bytes > to) return DROP.bad_ip_option;
    if (type === LOOSE_SOURCE_ROUTE || type === STRICT_SOURCE_ROUTE) return DROP.source_route;
    // Routers write where the pointer says: behind the option's own fields, and never into them.
    const fields = type === RECORD_ROUTE ? 3 : type === TIMESTAMP ? 4 : 0;
    if (bytes < fields || (fields !== 0 && view.getUint8(at + 2) <= fields)) return DROP.bad_ip_option;
    at += bytes;
  }
  return FORWARD;
}
