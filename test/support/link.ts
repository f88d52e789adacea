/** What becomes of one exchange: it never arrives, or it does and the answer is lost. */
export type Cut = 'request' | 'answer';

/** From the machine to its server, or the other way. */
export type Direction = 'up' | 'down';

/** What travels in one direction: a request, the answer to it, or one event of the stream. */
export type Message = Readonly<{ name: string; direction: Direction }>;

/** From this instant on one direction is dead, until something was lost in it. */
export type Break = Readonly<{ dead: Direction; when: 'before' | 'after' }>;

const lost = (why: string) => new TypeError('fetch failed', { cause: new Error(`the link was cut ${why}`) });

/** Every message between a machine and its server, in both directions, counted and cut at will. */
export class Link {
  #count = 0;
  #dead: Direction | undefined;
  /** Exchanges. */
  #underWay = 0;
  /** How each stream that is open is ended. */
  readonly #streams = new Set<() => void>();
  /** The exchanges, and the requests among the events. */
  readonly names: string[] = [];
  /** All that travelled, or was to. */
  readonly messages: Message[] = [];
  /** Of the exchange with this number. */
  cut: (number: number, name: string) => Cut | undefined = () => undefined;
  /** The next heartbeat of the stream is a message, too, and this hears that it has arrived. */
  onHeartbeat: (() => void) | undefined;
  /** Around the message that travels now. */
  breaks: (message: Message) => Break | undefined = () => undefined;

  next(name: string): Cut | undefined {
    this.names.push(name);
    return this.cut(this.#count++, name);
  }

  /** Whether nothing is under way, and the machine listens. */
  get isQuiet(): boolean {
    return this.#underWay === 0 && this.#streams.size > 0;
  }

  /** Nothing is cut any more. */
  heal(): void {
    this.#dead = undefined;
    this.cut = () => undefined;
    this.breaks = () => undefined;
  }

  /** The fetch of the agent's client. */
  readonly fetch: typeof fetch = async (url, init) => {
    const path = new URL(url instanceof Request ? url.url : url).pathname.split('/').at(-1) ?? '';
    const cut = this.next(path);
    this.#underWay++;
    try {
      if (cut === 'request' || !this.#arrives({ name: path, direction: 'up' })) throw lost('before');
      const response = await fetch(url, init);
      const isStream = path === 'watch' && response.ok;
      const body = isStream ? response.body : await response.text();
      if (cut === undefined && this.#arrives({ name: `${path} answered`, direction: 'down' })) {
        const { status, headers } = response;
        const isEmpty = status === 204 || status === 304;
        const arrived = body instanceof ReadableStream ? this.#stream(body) : isEmpty ? null : body;
        return new Response(arrived, { status, headers });
      }
      if (body instanceof ReadableStream) await body.cancel();
      throw lost('after');
    } finally {
      this.#underWay--;
    }
  };

  /** One event after the other: each is a message of its own. */
  #stream(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    const reader = body.getReader();
    const encoder = new TextEncoder();
    const decoder = new TextDecoder();
    let rest = '';
    let isTorn = false;
    let tear = () => {};
    const leave = () => {
      this.#streams.delete(tear);
      reader.cancel().catch(() => {});
    };
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        // By its end, not an error: what was sent before has arrived.
        tear = () => {
          if (isTorn) return;
          isTorn = true;
          leave();
          controller.close();
        };
        this.#streams.add(tear);
        const carry = (frame: string) => {
          const name = /^event: ?(.*)$/m.exec(frame)?.[1];
          const bytes = encoder.encode(`${frame}\n\n`);
          const hand = () => {
            if (!isTorn) controller.enqueue(bytes);
          };
          const heard = name === 'bookmark' ? this.onHeartbeat : undefined;
          // Heartbeats say nothing, but to who waits for one.
          if (name === undefined || (name === 'bookmark' && !heard)) hand();
          else if (this.#arrives({ name, direction: 'down' }, hand) && heard) {
            this.onHeartbeat = undefined;
            heard();
          }
        };
        const pump = async () => {
          for (;;) {
            const { done, value } = await reader.read();
            if (isTorn) return;
            if (done) break;
            const frames = (rest + decoder.decode(value, { stream: true })).split('\n\n');
            rest = frames.pop() ?? '';
            for (const frame of frames) carry(frame);
          }
        };
        pump().then(tear, tear);
      },
      cancel: () => {
        isTorn = true;
        leave();
      },
    });
  }

  /** Hands it over when its direction lives; a direction that dies takes the streams in it along. */
  #arrives(message: Message, hand: () => void = () => {}): boolean {
    this.messages.push(message);
    const found = this.breaks(message);
    if (found?.when === 'before') this.#die(found.dead);
    const isLost = this.#dead === message.direction;
    if (isLost) this.#dead = undefined;
    else hand();
    if (found?.when === 'after') this.#die(found.dead);
    return !isLost;
  }

  #die(dead: Direction): void {
    this.#dead = dead;
    if (dead === 'down') for (const tear of [...this.#streams]) tear();
  }
}
