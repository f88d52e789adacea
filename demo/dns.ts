/** Just enough of RFC 1035 to answer `dig`: one question in, one answer out. */

const typeA = 1;
const typeTxt = 16;
const headerBytes = 12;

export type Question = Readonly<{ name: string; type: number; end: number }>;

/** The first question of a query; undefined when the message has none that is well formed. */
export function questionIn(message: Uint8Array): Question | undefined {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  if (message.length < headerBytes + 5 || view.getUint16(4) < 1) return undefined;
  const labels: string[] = [];
  let at = headerBytes;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63) return undefined;
    at += 1 + length;
    if (length === 0) break;
    labels.push(new TextDecoder('latin1').decode(message.subarray(at - length, at)));
  }
  return at + 4 <= message.length ? { name: labels.join('.'), type: view.getUint16(at), end: at + 4 } : undefined;
}

/** Authoritative answer: `address` to a question for A, `text` to one for TXT, nothing (but no error) to all others. */
export function answerTo(query: Uint8Array, question: Question, address: string, text: string): Uint8Array {
  const data =
    question.type === typeA
      ? Uint8Array.from(address.split('.').map(Number))
      : question.type === typeTxt
        ? Uint8Array.from([text.length, ...new TextEncoder().encode(text)])
        : undefined;
  const answer = data ? [0xc0, headerBytes, 0, question.type, 0, 1, 0, 0, 0, 0, 0, data.length, ...data] : [];
  const message = Uint8Array.from([...query.subarray(0, question.end), ...answer]);
  const view = new DataView(message.buffer);
  // A response (QR), authoritative (AA); the wish for recursion (RD) is copied as RFC 1035 §4.1.1 says.
  view.setUint16(2, 0x8400 | (view.getUint16(2) & 0x0100));
  view.setUint16(4, 1);
  view.setUint16(6, data ? 1 : 0);
  view.setUint32(8, 0);
  return message;
}
