import { workerData } from 'node:worker_threads';
import { notify, waitReadable } from '../../../src/sys/wait.ts';

/** A thread of its own for the wait tests: sleeps in the kernel until `inbox` is notified, then notifies `outbox`. */
const { inbox, outbox } = workerData as Readonly<{ inbox: number; outbox: number }>;
// -1, as an empty place in a list of descriptors has it: the wake-up must come from the other one.
if (waitReadable(Int32Array.of(-1, inbox), 2, 10_000) === 0b10) notify(outbox);
