import type { Relay } from '../leases/store.ts';
import type { ForwardedAnswer, ForwardedRequest } from '../wire/broker.ts';

/** Hands a request to an agent; false when it cannot be delivered now. */
export type DeliverRequest = (request: ForwardedRequest) => boolean;

/** Why there is no answer. `silent`: the request was delivered, and whether it was carried out nobody says. */
export type Unreachable = 'no_agent' | 'not_delivered' | 'too_many' | 'silent';

export type ForwardingOptions = Readonly<{
  /** Requests to one machine that wait for its answer. */
  pending_per_machine_max: number;
  /** For another server to say that it has handed the request to the agent. */
  relay_ms: number;
  relay?: Relay | undefined;
  onError?: (error: unknown) => void;
}>;

type Waiting = Readonly<{ machine: string; resolve: (outcome: ForwardedAnswer | Unreachable) => void }> & {
  isTaken: boolean;
};

/** What servers tell one another. `server`: whom it is for, or (of a request) who waits. */
type Told =
  | Readonly<{ kind: 'request'; server: string; machine: string; request: ForwardedRequest }>
  | Readonly<{ kind: 'taken'; server: string; id: string }>
  | Readonly<{ kind: 'answer'; server: string; machine: string; answer: ForwardedAnswer }>;

/**
 * Requests on their way to the brokers of machines. One goes out over the event stream of the machine's agent, wherever
 * that is open, and its answer comes back as a request of its own, to whichever server; so the two are matched by id here.
 * Nothing outlives its time, and nothing is sent twice.
 */
export class Forwarding {
  readonly #options: ForwardingOptions;
  /** Names this server to the others, and its requests to everybody. */
  readonly #server = crypto.randomUUID();
  readonly #agents = new Map<string, DeliverRequest>();
  readonly #waiting = new Map<string, Waiting>();
  readonly #perMachine = new Map<string, number>();
  readonly #stopHearing: () => void;
  #sent = 0;

  constructor(options: ForwardingOptions) {
    this.#options = options;
    this.#stopHearing = options.relay?.onTold((text) => this.#hear(text)) ?? (() => {});
  }

  get pending(): number {
    return this.#waiting.size;
  }

  close(): void {
    this.#stopHearing();
    for (const { resolve, isTaken } of this.#waiting.values()) resolve(isTaken ? 'silent' : 'not_delivered');
  }

  /** The latest stream of a machine's agent gets the requests: an older one may be a connection that nobody reads. */
  attach(machine: string, deliver: DeliverRequest): () => void {
    this.#agents.set(machine, deliver);
    return () => {
      if (this.#agents.get(machine) === deliver) this.#agents.delete(machine);
    };
  }

  /** The answer of the machine's broker, or why there is none. */
  async forward(machine: string, asked: Omit<ForwardedRequest, 'id'>): Promise<ForwardedAnswer | Unreachable> {
    const open = this.#perMachine.get(machine) ?? 0;
    if (open >= this.#options.pending_per_machine_max) return 'too_many';
    const id = `${this.#server}.${++this.#sent}`;
    const { promise, resolve } = Promise.withResolvers<ForwardedAnswer | Unreachable>();
    const waiting: Waiting = { machine, resolve, isTaken: false };
    this.#perMachine.set(machine, open + 1);
    this.#waiting.set(id, waiting);
    const timers = [setTimeout(() => resolve('silent'), asked.timeout_s * 1_000)];
    try {
      const request = { id, ...asked };
      const deliver = this.#agents.get(machine);
      if (deliver !== undefined) {
        if (!deliver(request)) return 'not_delivered';
        waiting.isTaken = true;
      } else {
        if (this.#options.relay === undefined) return 'no_agent';
        timers.push(setTimeout(() => waiting.isTaken || resolve('no_agent'), this.#options.relay_ms));
        this.#tell({ kind: 'request', server: this.#server, machine, request });
      }
      return await promise;
    } finally {
      for (const timer of timers) clearTimeout(timer);
      this.#waiting.delete(id);
      const left = (this.#perMachine.get(machine) ?? 1) - 1;
      if (left > 0) this.#perMachine.set(machine, left);
      else this.#perMachine.delete(machine);
    }
  }

  /** False when nobody waits for it: it is late, or was asked of another machine. */
  answer(machine: string, answer: ForwardedAnswer): boolean {
    const [server = ''] = answer.id.split('.', 1);
    if (server !== this.#server) {
      if (this.#options.relay === undefined) return false;
      // Whether anybody waits there, that server knows.
      this.#tell({ kind: 'answer', server, machine, answer });
      return true;
    }
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined || waiting.machine !== machine) return false;
    waiting.resolve(answer);
    return true;
  }

  #tell(told: Told): void {
    this.#options.relay?.tell(JSON.stringify(told)).catch((error: unknown) => this.#options.onError?.(error));
  }

  #hear(text: string): void {
    // Nobody but servers of this version's kind tells anything here.
    const told = JSON.parse(text) as Told;
    switch (told.kind) {
      case 'request':
        if (told.server !== this.#server && this.#agents.get(told.machine)?.(told.request) === true)
          this.#tell({ kind: 'taken', server: told.server, id: told.request.id });
        return;
      case 'taken': {
        const waiting = told.server === this.#server ? this.#waiting.get(told.id) : undefined;
        if (waiting) waiting.isTaken = true;
        return;
      }
      case 'answer':
        if (told.server === this.#server) this.answer(told.machine, told.answer);
    }
  }
}
