/**
 * The engine's own thread: rules, rows and fsync beside the event loop that talks HTTP. What commits together is sent back
 * together, its events ahead of its answers.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { CommandKind } from '../leases/commands.ts';
import type { Answer } from '../leases/keyed.ts';
import type { Event } from '../leases/model.ts';
import { openEngine, type Engine } from './engine.ts';
import {
  failureOf,
  type EngineSetup,
  type Errand,
  type FromEngine,
  type ReadCall,
  type Reply,
  type ToEngine,
} from './messages.ts';
import { pack } from './packing.ts';

if (parentPort === null) throw new Error('this is the program of a worker thread');
const port = parentPort;
const send = (message: FromEngine) => port.postMessage(message);

let events: Event[] = [];
let answered: number[] = [];
let answers: Answer<CommandKind>[] = [];
let replies: Reply[] = [];
let isFlushing = false;
let lastReason: string | null = null;

/** After everything that the commit in progress resolves: its answers are further microtasks that stand in line already. */
function flushSoon(engine: Engine): void {
  if (isFlushing) return;
  isFlushing = true;
  queueMicrotask(() => {
    isFlushing = false;
    const health = engine.leases.health();
    const isNew = health.reason !== lastReason;
    lastReason = health.reason;
    send({ kind: 'news', packed: pack(events, answers), answered, replies, health: isNew ? health : null });
    [events, answered, answers, replies] = [[], [], [], []];
  });
}

function reply(engine: Engine, answer: Reply): void {
  replies.push(answer);
  flushSoon(engine);
}

function answer(engine: Engine, id: number, work: Promise<unknown>): void {
  work.then(
    (value) => reply(engine, { id, value }),
    (error: unknown) => reply(engine, { id, failure: failureOf(error) }),
  );
}

/** The method is one of the reader's, and the arguments are those that it was called with in the other thread. */
const read = (engine: Engine, { method, args }: ReadCall): Promise<unknown> =>
  (engine.reader[method] as (...args: readonly unknown[]) => Promise<unknown>)(...args);

const errands: Readonly<Record<Errand, (engine: Engine) => Promise<void>>> = {
  startSweeping: (engine) => engine.startSweeping(),
  stopSweeping: (engine) => engine.stopSweeping(),
  close: (engine) => engine.close(),
};

/** Nobody tells anything where there is nobody to be told. */
const tell = async ({ relay }: Engine, text: string): Promise<void> => relay?.tell(text);

function attend(engine: Engine, message: ToEngine): void {
  if (message.kind === 'tell') {
    answer(engine, message.id, tell(engine, message.text));
    return;
  }
  if (message.kind === 'errand') {
    answer(engine, message.id, errands[message.errand](engine));
    return;
  }
  for (const { id, command, terms } of message.executions)
    engine.leases.execute(command, terms).then(
      (result) => {
        answered.push(id);
        answers.push(result);
        flushSoon(engine);
      },
      (error: unknown) => reply(engine, { id, failure: failureOf(error) }),
    );
  for (const call of message.reads) answer(engine, call.id, read(engine, call));
}

try {
  const engine = await openEngine(workerData as EngineSetup, {
    onTrouble: ({ cause, ...trouble }) => send({ kind: 'trouble', trouble, failure: failureOf(cause) }),
    onSweepFailure: (error) => send({ kind: 'sweep failed', failure: failureOf(error) }),
  });
  engine.leases.onEvents((committed) => {
    events.push(...committed);
    flushSoon(engine);
  });
  engine.onForeignCommit(() => send({ kind: 'foreign commit' }));
  engine.relay?.onTold((text) => send({ kind: 'told', text }));
  port.on('message', (message: ToEngine) => attend(engine, message));
  send({ kind: 'opened', hasRelay: engine.relay !== undefined });
} catch (error) {
  send({ kind: 'not opened', failure: failureOf(error) });
}
