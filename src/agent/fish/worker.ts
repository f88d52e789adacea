import { getHeapStatistics } from 'node:v8';
import { isMainThread, parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { FlowLog, type FlowLogCursor } from '../../fish/log/flow-log.ts';
import { FlowMemory } from '../../fish/flows/flow-memory.ts';
import { flowRecord_bytes } from '../../fish/log/flow-records.ts';
import type { Walk } from '../../fish/log/walk.ts';
import { Forwarder, memorySizes } from '../../fish/forwarder.ts';
import { PacketTrace, type TraceRequest } from '../../fish/log/packet-trace.ts';
import type { Placeholders } from '../../fish/ports/placeholders.ts';
import { connectKeeper, packetPatience, type KeeperClient } from '../../keeper/client.ts';
import { EAFNOSUPPORT, EPERM } from '../../sys/constants.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { SysError } from '../../sys/errno.ts';
import { openIcmpErrors } from '../../sys/icmp-errors.ts';
import { viewOfMapping } from '../../sys/shared-memory.ts';
import { machineClockMs } from './clock.ts';
import { HeldSockets } from './held-sockets.ts';
import { KeptSockets } from './kept-sockets.ts';
import type {
  TraceSoFar,
  Begun,
  EndedBatch,
  Operation,
  Operations,
  Reply,
  Request,
  WorkerSetup,
} from './operations.ts';
import { endedFlows_max, lastWordsId, readyId } from './operations.ts';
import { clockMargin_ms, Pump } from './pump.ts';
import { randomNumbers } from './random.ts';
import type { Undelivered } from './tun-writer.ts';

const requestsPerRound_max = 4;
const takesAway: ReadonlySet<Operation> = new Set(['setBlocks', 'endLease', 'fence']);

/**
 * The thread that fish lives in. It never returns to its event loop while it runs, so requests are fetched from the port
 * when the wake-up descriptor says so; answers leave at once, because sending needs only the receiver's loop.
 */
function main(port: MessagePort, setup: WorkerSetup): void {
  const { config } = setup;
  const { memory, placeholders, undelivered, confirm, flush, lookAtSome, close } =
    keptOf(setup) ?? goneWithTheThread(setup);
  const random = randomNumbers();
  const forwarder = new Forwarder({
    config,
    memory,
    random,
    placeholders,
    log: new FlowLog({
      entriesMax: config.flowLogMax,
      since: Date.now() * 1_000,
      marginUs: clockMargin_ms * 1_000,
      random,
    }),
  });
  let leaves = setup.kept !== null;
  const errorFds = { 4: hearHostErrors(4), 6: hearHostErrors(6) };
  const pump: Pump = new Pump({
    forwarder,
    tunFd: setup.tunFd,
    placeholders: undelivered,
    wakeFd: setup.wakeFd,
    errorFds,
    vnetHeaderBytes: config.vnetHeaderBytes,
    serve: () => desk.serve(),
    afterRound: flush,
  });
  let read: FlowLogCursor = { flows: 0, blurs: 0 };
  const tracing = new Tracing(pump, config.vnetHeaderBytes);
  const answer = (request: Request) => {
    if (request.operation === 'stop') leaves = setup.kept !== null && request.ask.leave;
    const answered = request.operation === 'lostSockets' ? lookAtSome() : answerTo(request, forwarder, pump, tracing);
    // Whoever takes a block away may give it to somebody else next: what held it has to be closed by then.
    if (takesAway.has(request.operation)) confirm();
    // Whoever asks from there on has everything before it.
    if (request.operation === 'endedFlows') read = request.ask.after;
    return answered;
  };
  const desk = new Desk(port, answer);
  port.postMessage({ id: readyId, answer: { disbelieved: placeholders.disbelieved } satisfies Begun } satisfies Reply);
  try {
    pump.run();
  } finally {
    // Descriptors are the process's, so nobody else would ever close the placeholders. What is kept is for the next thread,
    // whatever ended this one, unless it was told otherwise.
    if (!leaves) {
      forwarder.setBlocks([], machineClockMs());
      confirm();
    } else flush();
    for (const fd of Object.values(errorFds)) if (fd >= 0) closeFd(fd);
    close();
    for (let batch: EndedBatch | undefined; batch === undefined || hasMore(batch); read = batch.next) {
      batch = forwarder.endedFlows(read, endedFlows_max);
      port.postMessage({ id: lastWordsId, answer: batch } satisfies Reply);
    }
  }
}

/** As many as were asked for: there may be more. */
const hasMore = ({ records }: EndedBatch): boolean => records.length === endedFlows_max * flowRecord_bytes;

/** One trace at a time; the last one's packets are there until the next begins, or they were read. */
class Tracing {
  readonly #pump: Pump;
  readonly #headerBytes: number;
  #trace: PacketTrace | null = null;

  constructor(pump: Pump, headerBytes: number) {
    this.#pump = pump;
    this.#headerBytes = headerBytes;
  }

  start(request: TraceRequest, nowMs: number): boolean {
    if (this.#trace?.isAwaited(nowMs)) return false;
    this.#trace = new PacketTrace(request, this.#headerBytes, nowMs);
    this.#pump.trace = this.#trace;
    return true;
  }

  read(nowMs: number): TraceSoFar {
    const trace = this.#trace;
    const isOver = trace === null || trace.isOver(nowMs);
    const packets = trace !== null && isOver ? trace.found : [];
    if (isOver) this.#pump.trace = this.#trace = null;
    return { packets, isOver, endedBy: trace?.endedBy ?? 'time', wallOffsetMs: Date.now() - nowMs };
  }
}

/** Where this host's ICMP errors to itself are heard; below 0 where that is not allowed, as for tests that are not root. */
function hearHostErrors(family: 4 | 6): number {
  const fd = openIcmpErrors(family);
  // Without IPv6 there is nothing to hear.
  if (fd >= 0 || fd === -EPERM || fd === -EAFNOSUPPORT) return fd;
  throw new SysError('socket', -fd, `ICMP errors over IPv${family}`);
}

type Holding = Readonly<{
  memory: FlowMemory;
  placeholders: Placeholders;
  undelivered: Undelivered;
  confirm: () => void;
  flush: () => void;
  /** How many of the placeholders looked at are lost. */
  lookAtSome: () => number;
  close: () => void;
}>;

/** Memory and sockets of this thread alone. */
function goneWithTheThread({ config, mark }: WorkerSetup): Holding {
  const nothingToDo = () => {};
  const memory = FlowMemory.local(memorySizes(config));
  const nothing = { confirm: nothingToDo, flush: nothingToDo, lookAtSome: () => 0, close: nothingToDo };
  return {
    memory,
    placeholders: new HeldSockets(mark),
    undelivered: { undelivered: 0, deliver: nothingToDo },
    ...nothing,
  };
}

/** Memory and sockets that outlive the process. */
function keptOf({ kept, mark }: WorkerSetup): Holding | undefined {
  if (kept === null) return undefined;
  const memory = FlowMemory.open(viewOfMapping(kept.memory));
  if (!memory.ok) throw new Error(`the flow table: ${memory.error}`);
  const keepers: { number: number; keeper: KeeperClient; flows_max: number }[] = [];
  const close = () => keepers.forEach(({ keeper }) => keeper.close());
  for (const { number, path, flows_max } of kept.keepers) {
    const connected = connectKeeper(path, packetPatience);
    if (!connected.ok) {
      close();
      throw new Error(connected.error);
    }
    keepers.push({ number, keeper: connected.value, flows_max });
  }
  const sockets = new KeptSockets({
    keepers,
    identity: memory.value.identity,
    mark,
  });
  return {
    memory: memory.value,
    placeholders: sockets,
    undelivered: sockets,
    confirm: () => sockets.confirm(),
    flush: () => sockets.flush(),
    lookAtSome: () => sockets.lookAtSome(),
    close,
  };
}

type Answer = Operations[Request['operation']]['answer'];

/**
 * Answers requests between the packets: a few at a time, so that one who keeps asking does not keep packets waiting, and what takes long
 * piece by piece, meanwhile the others.
 */
class Desk {
  readonly #port: MessagePort;
  readonly #answerTo: (request: Request) => Answer | Walk<Answer>;
  readonly #walks: { readonly id: number; readonly walk: Walk<Answer> }[] = [];

  constructor(port: MessagePort, answerTo: (request: Request) => Answer | Walk<Answer>) {
    this.#port = port;
    this.#answerTo = answerTo;
  }

  /** Whether there may be more to do. */
  serve(): boolean {
    this.#goOn();
    for (let served = 0; served < requestsPerRound_max; served++) {
      const next = receiveMessageOnPort(this.#port);
      if (!next) return this.#walks.length > 0;
      const request = next.message as Request;
      const answer = this.#answerTo(request);
      if (isWalk(answer)) this.#walks.push({ id: request.id, walk: answer });
      else this.#reply(request.id, answer);
    }
    return true;
  }

  #goOn(): void {
    const [first] = this.#walks;
    const piece = first?.walk.next();
    if (!first || !piece?.done) return;
    this.#walks.shift();
    this.#reply(first.id, piece.value);
  }

  #reply(id: number, answer: Answer): void {
    this.#port.postMessage({ id, answer } satisfies Reply);
  }
}

const isWalk = (answer: Answer | Walk<Answer>): answer is Walk<Answer> =>
  answer !== null && typeof answer === 'object' && Symbol.iterator in answer && 'next' in answer;

function answerTo(
  request: Exclude<Request, { operation: 'lostSockets' }>,
  forwarder: Forwarder,
  pump: Pump,
  tracing: Tracing,
): Answer | Walk<Answer> {
  const nowMs = machineClockMs();
  switch (request.operation) {
    case 'setBlocks':
      return forwarder.setBlocks(request.ask, nowMs);
    case 'endLease':
      return forwarder.endLease(request.ask, nowMs);
    case 'fence':
      return forwarder.fence(nowMs);
    case 'drain':
      forwarder.drain(request.ask);
      return null;
    case 'clampMss':
      forwarder.clampMss(request.ask);
      return null;
    case 'portUse':
      return forwarder.portUse();
    case 'stats': {
      const { writer, waits, fullRounds } = pump;
      return {
        ...forwarder.counters(),
        writesFailed: writer.failed,
        writeErrno: writer.errno,
        waits,
        fullRounds,
        heapUsedBytes: getHeapStatistics().used_heap_size,
      };
    }
    case 'flows':
      return forwarder.views.list(request.ask.filter, request.ask.max);
    case 'queryFlowLog':
      return forwarder.whoHad(request.ask.query, nowMs, request.ask.max);
    case 'startTrace':
      return tracing.start(request.ask, nowMs);
    case 'readTrace':
      return tracing.read(nowMs);
    case 'topTalkers':
      return forwarder.views.topTalkers(request.ask.by, request.ask.max);
    case 'busyRemotes':
      return forwarder.views.busyRemotes(request.ask.max);
    case 'endedFlows':
      return forwarder.endedFlows(request.ask.after, request.ask.max);
    case 'stop':
      pump.stop();
      return null;
  }
}

if (isMainThread || !parentPort) throw new Error('this file is a worker: start it by startFish()');
main(parentPort, workerData as WorkerSetup);
