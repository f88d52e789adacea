/**
 * What servers that share a database tell one another, by NOTIFY: a notification takes less than 8,000 bytes, so a text
 * goes in pieces. Those of one text are sent in one transaction, and come in order or not at all.
 */
export const relayChannel = 'fishery_relay';

const piece_characters_max = 7_000;
/** Texts of which pieces are missing yet; of more than so many senders at once the oldest is given up. */
const open_texts_max = 64;

/** `id` is the text's own: no other of any server has it. */
export function piecesOf(id: string, text: string): readonly string[] {
  // In an alphabet of one byte each.
  const encoded = Buffer.from(text).toString('base64');
  const count = Math.max(1, Math.ceil(encoded.length / piece_characters_max));
  return Array.from(
    { length: count },
    (_, index) =>
      `${id} ${index} ${count} ${encoded.slice(index * piece_characters_max, (index + 1) * piece_characters_max)}`,
  );
}

/** Puts pieces together again. */
export class Assembly {
  readonly #open = new Map<string, string[]>();

  /** The text that this piece completes; undefined as long as others are missing, or where it is none. */
  take(piece: string): string | undefined {
    const [id = '', index = '', count = '', part] = piece.split(' ');
    if (part === undefined) return undefined;
    const parts = this.#open.get(id) ?? [];
    if (Number(index) !== parts.length) {
      this.#open.delete(id);
      return undefined;
    }
    parts.push(part);
    if (parts.length === Number(count)) {
      this.#open.delete(id);
      return Buffer.from(parts.join(''), 'base64').toString();
    }
    this.#open.set(id, parts);
    const [oldest] = this.#open.keys();
    if (this.#open.size > open_texts_max && oldest !== undefined) this.#open.delete(oldest);
    return undefined;
  }
}
