import type { FlowAnswer, FlowQuery } from '../wire/agent.ts';

/** Hands a question to an agent; false when it cannot be delivered now. */
export type Deliver = (query: FlowQuery) => boolean;

type Waiting = Readonly<{ machine: string; resolve: (answer: FlowAnswer | undefined) => void }>;

/**
 * Questions to the flow logs, which live on the machines. A question goes out over the agent's event stream and its
 * answer comes back as a request of its own, so the two are matched by id here. Nothing outlives its time.
 */
export class FlowQueries {
  readonly #timeoutMs: number;
  readonly #pendingMax: number;
  readonly #agents = new Map<string, Deliver>();
  readonly #waiting = new Map<string, Waiting>();
  #asked = 0;

  constructor(options: Readonly<{ timeout_ms: number; pending_max: number }>) {
    this.#timeoutMs = options.timeout_ms;
    this.#pendingMax = options.pending_max;
  }

  get pending(): number {
    return this.#waiting.size;
  }

  /** The latest stream of a machine's agent gets the questions: an older one may be a connection that nobody reads. */
  attach(machine: string, deliver: Deliver): () => void {
    this.#agents.set(machine, deliver);
    return () => {
      if (this.#agents.get(machine) === deliver) this.#agents.delete(machine);
    };
  }

  /** Undefined when no agent is connected, when it does not answer in time, or when too many questions are open. */
  async ask(machine: string, question: Omit<FlowQuery, 'id'>): Promise<FlowAnswer | undefined> {
    const deliver = this.#agents.get(machine);
    if (deliver === undefined || this.#waiting.size >= this.#pendingMax) return undefined;
    const id = `flow-${++this.#asked}`;
    const { promise, resolve } = Promise.withResolvers<FlowAnswer | undefined>();
    this.#waiting.set(id, { machine, resolve });
    const timer = setTimeout(() => resolve(undefined), this.#timeoutMs);
    try {
      return deliver({ id, ...question }) ? await promise : undefined;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  /** False when nobody waits for it: it is late, or was asked of another machine. */
  answer(machine: string, answer: FlowAnswer): boolean {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined || waiting.machine !== machine) return false;
    waiting.resolve(answer);
    return true;
  }
}
