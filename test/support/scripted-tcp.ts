import { tcp, type Endpoint, type TcpFields } from './packets.ts';

export type TcpMove = 'begin' | 'answer' | 'data' | 'acknowledge' | 'finish' | 'reset';

type Side = { next: number; finished: boolean };

/** Both ends of a connection that lose nothing: every segment is in order and acknowledges all that was sent. */
export class ScriptedTcp {
  readonly #client: Endpoint;
  readonly #remote: Endpoint;
  #from: Side = { next: 1_000, finished: false };
  #to: Side = { next: 5_000, finished: false };
  #began = false;
  #answered = false;

  constructor(client: Endpoint, remote: Endpoint) {
    this.#client = client;
    this.#remote = remote;
  }

  /** A segment of the client's, as it sends it; undefined when it could not send such a one now. */
  fromClient(move: TcpMove): TcpFields | undefined {
    if (move === 'begin') return this.#begin();
    if (!this.#answered) return undefined;
    return this.#segment(move, this.#client, this.#remote, this.#from, this.#to);
  }

  /** A segment of the remote's, to where it saw the client come from. */
  fromRemote(move: TcpMove, leased: Endpoint): TcpFields | undefined {
    if (move === 'answer') return this.#answer(leased);
    if (!this.#answered || move === 'begin') return undefined;
    return this.#segment(move, this.#remote, leased, this.#to, this.#from);
  }

  #begin(): TcpFields {
    // After an end the client starts anew, with other numbers.
    if (this.#began) this.#from = { next: (this.#from.next + 100_000) >>> 0, finished: false };
    this.#to = { next: (this.#to.next + 300_000) >>> 0, finished: false };
    this.#began = true;
    this.#answered = false;
    const syn = tcp(this.#client, this.#remote, 'S', { sequence: this.#from.next, window: 65_535 });
    this.#from.next++;
    return syn;
  }

  #answer(leased: Endpoint): TcpFields | undefined {
    if (!this.#began || this.#answered) return undefined;
    this.#answered = true;
    const numbers = { sequence: this.#to.next, acknowledgement: this.#from.next, window: 65_535 };
    this.#to.next++;
    return tcp(this.#remote, leased, 'SA', numbers);
  }

  #segment(move: TcpMove, from: Endpoint, to: Endpoint, own: Side, other: Side): TcpFields | undefined {
    const numbers = { sequence: own.next, acknowledgement: other.next, window: 65_535 };
    if (move === 'acknowledge') return tcp(from, to, 'A', numbers);
    if (move === 'reset') return tcp(from, to, 'RA', numbers);
    if (own.finished || move === 'answer') return undefined;
    if (move === 'finish') {
      own.finished = true;
      own.next++;
      return tcp(from, to, 'FA', numbers);
    }
    own.next += 3;
    return tcp(from, to, 'PA', { ...numbers, data: Uint8Array.of(1, 2, 3) });
  }
}
