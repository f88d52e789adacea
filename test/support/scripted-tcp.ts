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
  /** Who has begun, and waits for the other's answer or has had it. */
  #caller: 'client' | 'remote' = 'client';

  constructor(client: Endpoint, remote: Endpoint) {
    this.#client = client;
    this.#remote = remote;
  }

  /** A segment of the client's, as it sends it; undefined when it could not send such a one now. */
  fromClient(move: TcpMove): TcpFields | undefined {
    if (move === 'begin') return this.#begin('client', this.#client, this.#remote);
    if (move === 'answer') return this.#answer('client', this.#client, this.#remote);
    if (!this.#answered && this.#began && this.#caller === 'remote' && move === 'reset') return this.#refuse();
    if (!this.#answered) return undefined;
    return this.#segment(move, this.#client, this.#remote, this.#from, this.#to);
  }

  /** A segment of the remote's, to where it saw the client come from. */
  fromRemote(move: TcpMove, leased: Endpoint): TcpFields | undefined {
    if (move === 'begin') return this.#begin('remote', this.#remote, leased);
    if (move === 'answer') return this.#answer('remote', this.#remote, leased);
    if (!this.#answered) return undefined;
    return this.#segment(move, this.#remote, leased, this.#to, this.#from);
  }

  #begin(caller: 'client' | 'remote', from: Endpoint, to: Endpoint): TcpFields {
    // After an end both start anew, with other numbers.
    if (this.#began) this.#from = { next: (this.#from.next + 100_000) >>> 0, finished: false };
    this.#to = { next: (this.#to.next + 300_000) >>> 0, finished: false };
    this.#began = true;
    this.#answered = false;
    this.#caller = caller;
    const own = this.#sideOf(caller);
    const syn = tcp(from, to, 'S', { sequence: own.next, window: 65_535 });
    own.next++;
    return syn;
  }

  #sideOf(who: 'client' | 'remote'): Side {
    return who === 'client' ? this.#from : this.#to;
  }

  #refuse(): TcpFields {
    this.#began = false;
    return tcp(this.#client, this.#remote, 'RA', { sequence: 0, acknowledgement: this.#to.next, window: 0 });
  }

  #answer(who: 'client' | 'remote', from: Endpoint, to: Endpoint): TcpFields | undefined {
    if (!this.#began || this.#answered || this.#caller === who) return undefined;
    this.#answered = true;
    const own = this.#sideOf(who);
    const numbers = { sequence: own.next, acknowledgement: this.#sideOf(this.#caller).next, window: 65_535 };
    own.next++;
    return tcp(from, to, 'SA', numbers);
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
