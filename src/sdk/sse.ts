/** One server-sent event, dispatched by an empty line. */
export type ServerSentEvent = Readonly<{
  /** The `event` field; `message` when there was none. */
  event: string;
  /** The `data` lines, joined by newlines. */
  data: string;
  /** The last `id` seen so far in this stream, '' when there was none. */
  id: string;
}>;

/** More than any event of ours; a stream that never ends a line must not fill the memory. */
const bufferedCharsMax = 16 * 1024 * 1024;

/**
 * An incremental parser of text/event-stream (WHATWG HTML, "Server-sent events"): LF, CR and CRLF end a line, also when
 * a CRLF or a UTF-8 sequence falls between two chunks; comments and unknown fields are skipped; an event that the end
 * of the stream cuts off is not dispatched.
 *
 * `onComment` hears of comments, which servers send as heartbeats.
 */
export class SseParser {
  readonly #decoder = new TextDecoder('utf-8');
  readonly #onComment: (text: string) => void;
  /** The unfinished line. */
  #rest = '';
  /** The last chunk ended in CR: a LF at the start of the next one belongs to it. */
  #afterCr = false;
  #event = '';
  #data: string[] = [];
  #dataChars = 0;
  #id = '';
  #retryMs: number | null = null;

  constructor(onComment: (text: string) => void = () => {}) {
    this.#onComment = onComment;
  }

  /** How long the server asked to wait before coming back (`retry`), or null. */
  get retryMs(): number | null {
    return this.#retryMs;
  }

  /** The events that this chunk completes, in order. Throws RangeError past 16 Mi characters of one event. */
  push(chunk: Uint8Array): ServerSentEvent[] {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (text === '') return [];
    if (this.#afterCr && text.startsWith('\n')) text = text.slice(1);
    this.#afterCr = text === '' ? false : text.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + (lines[0] ?? '');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length + this.#dataChars > bufferedCharsMax)
      throw new RangeError(`an event of more than ${bufferedCharsMax} characters`);
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line: string): ServerSentEvent[] {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) {
      this.#onComment(line.slice(1).trimStart());
      return [];
    }
    const field = colon < 0 ? line : line.slice(0, colon);
    const raw = colon < 0 ? '' : line.slice(colon + 1);
    const value = raw.startsWith(' ') ? raw.slice(1) : raw;
    if (field === 'event') this.#event = value;
    else if (field === 'data') {
      this.#data.push(value);
      this.#dataChars += value.length + 1;
    } else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'retry' && /^\d+$/.test(value)) this.#retryMs = Number(value);
    return [];
  }

  #dispatch(): ServerSentEvent[] {
    const event = { event: this.#event || 'message', data: this.#data.join('\n'), id: this.#id };
    const hasData = this.#data.length > 0;
    this.#event = '';
    this.#data = [];
    this.#dataChars = 0;
    return hasData ? [event] : [];
  }
}
