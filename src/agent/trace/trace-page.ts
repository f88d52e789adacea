import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { TracedPacket, TraceEnd, TraceRequest } from '../../fish/log/packet-trace.ts';
import { verdictName } from '../../fish/verdicts.ts';
import { formatInstant } from '../../wire/instants.ts';
import { AddressText, ProtocolName } from '../../wire/primitives.ts';
import type { TraceSoFar } from '../fish/operations.ts';
import { mergeSteps, type TraceStep } from './kernel-steps.ts';
import type { KernelTracer } from './kernel-tracer.ts';
import { pcapng, type CapturedPacket } from './pcapng.ts';
import { traceText } from './trace-text.ts';

/** The trace of a fish that runs: begins one, and says what it found once it is over. `startTrace` is false when another one is under way. */
export type Tracer = Readonly<{
  startTrace(request: TraceRequest): Promise<boolean>;
  readTrace(): Promise<TraceSoFar>;
}>;

const look_ms = 100;
/** What fish has seen last, the kernel is still telling of. */
const settle_ms = 300;

/** The query of `/trace`. */
export const traceQuery = z.strictObject({
  client: AddressText.optional(),
  remote: AddressText.optional(),
  leased: AddressText.optional(),
  protocol: ProtocolName.optional(),
  port: z.coerce.number().int().min(1).max(65_535).optional(),
  packets: z.coerce.number().int().min(1).max(10_000).default(100),
  seconds: z.coerce.number().min(0.1).max(60).default(10),
  bytes: z.coerce.number().int().min(1_024).max(67_108_864).default(33_554_432),
  snap_bytes: z.coerce.number().int().min(64).max(65_575).default(256),
});

/** Who tells: fish, while it runs, and the kernel. */
export type TraceParts = Readonly<{ fish: Tracer | undefined; kernel: Pick<KernelTracer, 'begin'> | null }>;
type Answer = Readonly<{ code: number; body: object | string }>;

const busy: Answer = { code: 409, body: 'another trace is under way: try again when it is over' };

/**
 * Looks at packets until there are enough, or the time is over, or whoever asked is `gone`; JSON, or a line about what is wrong
 * with the question. Fish's packets are counted; without fish, the kernel's.
 */
export async function tracePage(parts: TraceParts, query: URLSearchParams, gone: AbortSignal): Promise<Answer> {
  const asked = traceQuery.safeParse(Object.fromEntries(query));
  if (!asked.success) {
    const [wrong] = asked.error.issues;
    return { code: 400, body: `${wrong?.path.join('.') || 'the query'}: ${wrong?.message}` };
  }
  const { fish, kernel } = parts;
  if (!fish && !kernel) return { code: 503, body: 'fish does not run on this host, or not now' };
  const {
    client,
    remote,
    leased,
    protocol,
    port,
    packets: packets_max,
    bytes: bytes_max,
    seconds,
    snap_bytes: snapBytes,
  } = asked.data;
  const addresses = [client, remote, leased].filter((address) => address !== undefined);
  const filter = { ...(protocol && { protocol }), addresses, ports: port === undefined ? [] : [port] };
  const inKernel = await kernel?.begin(filter, packets_max, seconds);
  if (kernel && !inKernel) return busy;
  try {
    const isOurs = await (fish?.startTrace({ filter, packets_max, bytes_max, snapBytes, forMs: seconds * 1_000 }) ??
      true);
    if (!isOurs) return busy;
    const until = performance.now() + seconds * 1_000;
    for (;;) {
      const isOver = gone.aborted || performance.now() >= until || inKernel?.isFull() === true;
      const endedBy: TraceEnd = inKernel?.isFull() === true ? 'packets' : 'time';
      const { packets, wallOffsetMs, ...found } = (await fish?.readTrace()) ?? nothingOfFish(isOver, endedBy);
      if (found.isOver || gone.aborted) {
        if (inKernel && !gone.aborted) await sleep(settle_ms);
        const { steps, problem } = inKernel?.end() ?? { steps: [], problem: null };
        return {
          code: 200,
          body: { ...traceDocument(packets, wallOffsetMs, steps), ended_by: found.endedBy, kernel_problem: problem },
        };
      }
      await sleep(look_ms);
    }
  } finally {
    inKernel?.end();
  }
}

const nothingOfFish = (isOver: boolean, endedBy: TraceEnd): TraceSoFar => ({
  packets: [],
  wallOffsetMs: 0,
  isOver,
  endedBy,
});

/** `pcapng`: base64, of fish's side. */
export function traceDocument(
  packets: readonly TracedPacket[],
  wallOffsetMs: number,
  kernel: readonly TraceStep[],
): object {
  const at = ({ atMs }: TracedPacket) => Math.round((atMs + wallOffsetMs) * 1_000);
  const captured = packets.flatMap((packet): readonly CapturedPacket[] =>
    [packet.before, packet.after].flatMap((data, place) =>
      data ? [{ at: at(packet), place, bytes: packet.bytes, data, comment: traceText(packet) }] : [],
    ),
  );
  const fish = packets.map((packet): TraceStep => ({
    at: at(packet),
    by: 'fish',
    verdict: packet.kind === 'packet' ? verdictName(packet.verdict) : packet.kind,
    text: traceText(packet),
  }));
  return {
    steps: mergeSteps(fish, kernel).map((step) => ({ ...step, at: formatInstant(step.at) })),
    pcapng: pcapng(['before', 'after'], captured).toString('base64'),
  };
}
