import { parentPort, workerData } from 'node:worker_threads';
import { errnoName } from '../../../src/sys/errno.ts';
import { openBound } from '../../../src/sys/placeholders.ts';
import { notify, waitReadable } from '../../../src/sys/wait.ts';

/** A thread of its own for the wait tests: sleeps in the kernel until `inbox` is notified, then notifies `outbox`. */
const { inbox, outbox } = workerData as Readonly<{ inbox: number; outbox: number }>;
// A refusal here and then, while the main thread makes calls of its own: each must see its own error number.
parentPort?.postMessage(errnoName(openBound(Uint8Array.of(203, 0, 113, 200), 9000, 'tcp', 0)));
// -1, as an empty place in a list of descriptors has it: the wake-up must come from the other one.
if (waitReadable(Int32Array.of(-1, inbox), 2, 10_000) === 0b10) notify(outbox);
