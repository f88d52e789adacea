/** The kinds of TCP options that fish reads (RFC 9293 3.2, RFC 7323), and how long they are, kind and length included. */
export const MAXIMUM_SEGMENT_SIZE = { kind: 2, bytes: 4 } as const;
export const WINDOW_SCALE = { kind: 3, bytes: 3 } as const;

const END = 0;
const NO_OPERATION = 1;

/**
 * Where the next option of this kind begins, from `from` on and before `end`; -1 when there is none. A malformed list ends where it
 * stops making sense (RFC 9293 3.1), one of another length than it must have is passed over.
 */
export function findOption(
  view: DataView,
  from: number,
  end: number,
  { kind, bytes }: Readonly<{ kind: number; bytes: number }>,
): number {
  let at = from;
  // What has no room for a length can be nothing but padding.
  while (at + 1 < end) {
    const found = view.getUint8(at);
    if (found === END) return -1;
    if (found === NO_OPERATION) {
      at++;
      continue;
    }
    const length = view.getUint8(at + 1);
    if (length < 2 || at + length > end) return -1;
    if (found === kind && length === bytes) return at;
    at += length;
  }
  return -1;
}
