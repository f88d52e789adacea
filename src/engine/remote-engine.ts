import { Worker } from 'node:worker_threads';
import type { Command, CommandKind } from '../leases/commands.ts';
import type { Answer } from '../leases/keyed.ts';
import type { Health, Terms } from '../leases/lease-service.ts';
import { limits } from '../leases/limits.ts';
import type { Event } from '../leases/model.ts';
import { StoreError, type Reader, type Relay } from '../leases/store.ts';
import type { Engine, EngineListeners, EngineOptions } from './engine.ts';
import {
  errorOf,
  type Errand,
  type Execution,
  type FromEngine,
  type ReadCall,
  type Reply,
  type ToEngine,
} from './messages.ts';
import { unpack } from './packing.ts';

/** The thread's own program, which in a package is compiled like this one. */
const program = new URL(import.meta.url.endsWith('.ts') ? 'thread.ts' : 'thread.js', import.meta.url);

/**
 * Opens the engine in a thread of its own, so that rows and fsyncs do not hold up requests, nor requests the engine. Throws
 * a `StoreError` that says what to do.
 */
export async function startEngine(options: EngineOptions, listeners: EngineListeners): Promise<Engine> {
  const worker = new Worker(program, { workerData: options, name: 'engine' });
  const engine = new RemoteEngine(worker, listeners);
  await engine.opened;
  return engine;
}

type Waiting = Readonly<{ resolve: (value: unknown) => void; reject: (error: Error) => void }>;

/**
 * The engine as the thread with the event loop of the API sees it. What is asked in one turn of the loop crosses in one
 * message; the answers of a commit come back in one, events first.
 */
class RemoteEngine implements Engine {
  readonly leases: Engine['leases'];
  readonly reader: Reader;
  readonly opened: Promise<unknown>;
  readonly #worker: Worker;
  readonly #listeners: EngineListeners;
  readonly #opening = Promise.withResolvers<undefined>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #eventListeners = new Set<(events: readonly Event[]) => void>();
  readonly #foreignListeners = new Set<() => void>();
  readonly #toldListeners = new Set<(text: string) => void>();
  #hasRelay = false;
  #executions: Execution[] = [];
  #reads: ReadCall[] = [];
  #lastId = 0;
  #executing = 0;
  #reason: string | null = null;
  #isClosing = false;
  /** Why the thread ended, once it has. */
  #end: string | undefined;

  constructor(worker: Worker, listeners: EngineListeners) {
    this.#worker = worker;
    this.#listeners = listeners;
    this.opened = this.#opening.promise;
    this.leases = {
      execute: (command, terms) => this.#execute(command, terms),
      health: () => this.#health(),
      onEvents: (listener) => {
        this.#eventListeners.add(listener);
        return () => this.#eventListeners.delete(listener);
      },
    };
    this.reader = this.#remoteReader();
    let failure: unknown;
    worker.on('message', (message: FromEngine) => this.#hear(message));
    worker.on('error', (error: unknown) => {
      failure = error;
    });
    worker.on('exit', (code) => this.#onExit(failure, code));
  }

  onForeignCommit(wake: () => void): () => void {
    this.#foreignListeners.add(wake);
    return () => this.#foreignListeners.delete(wake);
  }

  get relay(): Relay | undefined {
    if (!this.#hasRelay) return undefined;
    return {
      tell: async (text) => {
        const { promise, resolve, reject } = Promise.withResolvers<undefined>();
        const id = this.#await({ resolve: () => resolve(undefined), reject });
        if (id !== undefined) this.#post({ kind: 'tell', id, text });
        await promise;
      },
      onTold: (listener) => {
        this.#toldListeners.add(listener);
        return () => this.#toldListeners.delete(listener);
      },
    };
  }

  startSweeping(): Promise<void> {
    return this.#run('startSweeping');
  }

  stopSweeping(): Promise<void> {
    return this.#run('stopSweeping');
  }

  async close(): Promise<void> {
    if (this.#isClosing || this.#end !== undefined) return;
    this.#isClosing = true;
    await this.#run('close');
    await this.#worker.terminate();
  }

  #execute<K extends CommandKind>(command: Command<K>, terms?: Terms): Promise<Answer<K>> {
    if (this.#executing >= limits.waiting_commands_max)
      return Promise.reject(new StoreError('overloaded', `${this.#executing} commands wait already`));
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#executing++;
    const id = this.#await({
      resolve: (value) => {
        this.#executing--;
        resolve(value);
      },
      reject: (error) => {
        this.#executing--;
        reject(error);
      },
    });
    if (id !== undefined) {
      // The queue is of all kinds.
      this.#executions.push({ id, command: command as Command, terms });
      this.#sendSoon();
    }
    // The answer under this identifier is the one to this very command.
    return promise as Promise<Answer<K>>;
  }

  #health(): Health {
    const reason = this.#end ?? (this.#isClosing ? 'the server is shutting down' : this.#reason);
    return { writable: reason === null, reason, waitingCommands: this.#executing };
  }

  /** Every method of a reader is a question with an answer, so all of them cross in the same way. */
  #remoteReader(): Reader {
    const call = (method: keyof Reader, args: readonly unknown[]): Promise<unknown> => {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      const id = this.#await({ resolve, reject });
      if (id !== undefined) {
        this.#reads.push({ id, method, args });
        this.#sendSoon();
      }
      return promise;
    };
    const methods = new Map<string | symbol, (...args: readonly unknown[]) => Promise<unknown>>();
    const get = (_: object, method: string | symbol) => {
      // A promise may be resolved with this object, which is then asked whether it is one itself.
      if (typeof method !== 'string' || method === 'then') return undefined;
      let found = methods.get(method);
      if (!found) methods.set(method, (found = (...args) => call(method as keyof Reader, args)));
      return found;
    };
    return new Proxy({}, { get }) as Reader;
  }

  async #run(errand: Errand): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const id = this.#await({ resolve: () => resolve(undefined), reject });
    if (id !== undefined) {
      this.#sendCalls();
      this.#post({ kind: 'errand', id, errand });
    }
    await promise;
  }

  /** Keeps a place for an answer; undefined when there can be none any more, which is said at once. */
  #await(waiting: Waiting): number | undefined {
    if (this.#end !== undefined) {
      waiting.reject(new StoreError('closed', this.#end));
      return undefined;
    }
    const id = ++this.#lastId;
    this.#waiting.set(id, waiting);
    return id;
  }

  #sendSoon(): void {
    if (this.#executions.length + this.#reads.length === 1) setImmediate(() => this.#sendCalls());
  }

  #sendCalls(): void {
    if (this.#executions.length + this.#reads.length === 0) return;
    this.#post({ kind: 'calls', executions: this.#executions, reads: this.#reads });
    this.#executions = [];
    this.#reads = [];
  }

  #post(message: ToEngine): void {
    this.#worker.postMessage(message);
  }

  #hear(message: FromEngine): void {
    switch (message.kind) {
      case 'opened':
        this.#hasRelay = message.hasRelay;
        this.#opening.resolve(undefined);
        break;
      case 'not opened':
        this.#isClosing = true;
        this.#opening.reject(errorOf(message.failure));
        void this.#worker.terminate();
        break;
      case 'news': {
        const { events, answers } = unpack(message.packed);
        if (message.health) this.#reason = message.health.reason;
        if (events.length > 0) this.#publish(events);
        for (const [index, id] of message.answered.entries()) this.#take(id)?.resolve(answers[index]);
        for (const reply of message.replies) this.#settle(reply);
        break;
      }
      case 'foreign commit':
        for (const wake of this.#foreignListeners) wake();
        break;
      case 'told':
        for (const listener of this.#toldListeners) listener(message.text);
        break;
      case 'trouble':
        this.#listeners.onTrouble({ ...message.trouble, cause: errorOf(message.failure) });
        break;
      case 'sweep failed':
        this.#listeners.onSweepFailure(errorOf(message.failure));
        break;
    }
  }

  #publish(events: readonly Event[]): void {
    for (const listener of this.#eventListeners) {
      try {
        listener(events);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        this.#listeners.onTrouble({ kind: 'bug', message: `a listener failed: ${reason}`, cause });
      }
    }
  }

  #settle(reply: Reply): void {
    const waiting = this.#take(reply.id);
    if ('value' in reply) waiting?.resolve(reply.value);
    else waiting?.reject(errorOf(reply.failure));
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #onExit(failure: unknown, code: number): void {
    const reason = failure instanceof Error ? failure.message : `the engine's thread ended with code ${code}`;
    this.#end = this.#isClosing ? 'the server is shutting down' : reason;
    this.#opening.reject(new StoreError('closed', this.#end));
    const error = new StoreError(this.#isClosing ? 'closed' : 'io', this.#end, failure);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    if (!this.#isClosing) this.#listeners.onDeath(reason);
  }
}
