import { isMainThread, parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { FlowLog } from '../../fish/flow-log.ts';
import { FlowMemory } from '../../fish/flow-memory.ts';
import type { FlowSnapshot } from '../../fish/flow-views.ts';
import { Forwarder, memorySizes } from '../../fish/forwarder.ts';
import { machineClockMs } from './clock.ts';
import { HeldSockets } from './held-sockets.ts';
import type { FlowList, Operations, Reply, Request, WorkerSetup } from './operations.ts';
import { readyId } from './operations.ts';
import { clockMargin_ms, Pump } from './pump.ts';
import { randomNumbers } from './random.ts';

const requestsPerRound_max = 4;

/**
 * The thread that fish lives in. It never returns to its event loop while it runs, so requests are fetched from the port
 * when the wake-up descriptor says so; answers leave at once, because sending needs only the receiver's loop.
 */
function main(port: MessagePort, setup: WorkerSetup): void {
  const { config } = setup;
  const forwarder = new Forwarder({
    config,
    memory: FlowMemory.local(memorySizes(config)),
    random: randomNumbers(),
    placeholders: new HeldSockets(setup.mark),
    log: new FlowLog({ entriesMax: config.flowLogMax, since: Date.now() * 1_000, marginUs: clockMargin_ms * 1_000 }),
  });
  const pump: Pump = new Pump({
    forwarder,
    tunFd: setup.tunFd,
    wakeFd: setup.wakeFd,
    vnetHeaderBytes: config.vnetHeaderBytes,
    serve: () => serve(port, (request) => answerTo(request, forwarder, pump)),
  });
  port.postMessage({ id: readyId, answer: null } satisfies Reply);
  try {
    pump.run();
  } finally {
    // Whatever ended the loop: descriptors are the process's, so nobody else would ever close the placeholders.
    forwarder.setBlocks([], machineClockMs());
  }
}

/** Answers the next few requests, so that one who keeps asking does not keep packets waiting; whether there may be more. */
function serve(port: MessagePort, answer: (request: Request) => unknown): boolean {
  for (let served = 0; served < requestsPerRound_max; served++) {
    const next = receiveMessageOnPort(port);
    if (!next) return false;
    const request = next.message as Request;
    port.postMessage({ id: request.id, answer: answer(request) } satisfies Reply);
  }
  return true;
}

function answerTo(request: Request, forwarder: Forwarder, pump: Pump): Operations[Request['operation']]['answer'] {
  const nowMs = machineClockMs();
  switch (request.operation) {
    case 'setBlocks':
      return forwarder.setBlocks(request.ask, nowMs);
    case 'endLease':
      return forwarder.endLease(request.ask, nowMs);
    case 'stats': {
      const { writesFailed, writeErrno, waits, fullRounds } = pump;
      return { ...forwarder.counters(), writesFailed, writeErrno, waits, fullRounds };
    }
    case 'flows':
      return listFlows(forwarder, request.ask);
    case 'queryFlowLog':
      return forwarder.whoHad(request.ask.query, nowMs, request.ask.max);
    case 'stop':
      pump.stop();
      return null;
  }
}

function listFlows(forwarder: Forwarder, { filter, max }: Operations['flows']['ask']): FlowList {
  const flows: FlowSnapshot[] = [];
  for (const flow of forwarder.flows(filter)) {
    if (flows.length === max) return { flows, truncated: true };
    flows.push(flow);
  }
  return { flows, truncated: false };
}

if (isMainThread || !parentPort) throw new Error('this file is a worker: start it by startFish()');
main(parentPort, workerData as WorkerSetup);
