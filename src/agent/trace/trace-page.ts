import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { TracedPacket, TraceRequest } from '../../fish/packet-trace.ts';
import { verdictName } from '../../fish/verdicts.ts';
import { formatInstant } from '../../wire/instants.ts';
import { AddressText, ProtocolName } from '../../wire/primitives.ts';
import type { TraceSoFar } from '../fish/operations.ts';
import { pcapng, type CapturedPacket } from './pcapng.ts';
import { traceText } from './trace-text.ts';

/** The trace of a fish that runs: begins one, and says what it found once it is over. `startTrace` is false when another one is under way. */
export type Tracer = Readonly<{
  startTrace(request: TraceRequest): Promise<boolean>;
  readTrace(): Promise<TraceSoFar>;
}>;

const look_ms = 100;

/** The query of `/trace`. */
export const traceQuery = z.strictObject({
  client: AddressText.optional(),
  remote: AddressText.optional(),
  leased: AddressText.optional(),
  protocol: ProtocolName.optional(),
  port: z.coerce.number().int().min(1).max(65_535).optional(),
  packets: z.coerce.number().int().min(1).max(10_000).default(100),
  seconds: z.coerce.number().min(0.1).max(60).default(10),
  snap_bytes: z.coerce.number().int().min(64).max(65_575).default(256),
});

/** Looks at packets until there are enough, or the time is over; JSON, or a line about what is wrong with the question. */
export async function tracePage(
  tracer: Tracer | undefined,
  query: URLSearchParams,
): Promise<Readonly<{ code: number; body: object | string }>> {
  const asked = traceQuery.safeParse(Object.fromEntries(query));
  if (!asked.success) {
    const [wrong] = asked.error.issues;
    return { code: 400, body: `${wrong?.path.join('.') || 'the query'}: ${wrong?.message}` };
  }
  if (!tracer) return { code: 503, body: 'fish does not run on this host, or not now' };
  const { client, remote, leased, protocol, port, packets: packets_max, seconds, snap_bytes: snapBytes } = asked.data;
  const addresses = [client, remote, leased].filter((address) => address !== undefined);
  const filter = { ...(protocol && { protocol }), addresses, ports: port === undefined ? [] : [port] };
  const isOurs = await tracer.startTrace({ filter, packets_max, snapBytes, forMs: seconds * 1_000 });
  if (!isOurs) return { code: 409, body: 'another trace is under way: try again when it is over' };
  for (;;) {
    const { packets, isOver, wallOffsetMs } = await tracer.readTrace();
    if (isOver) return { code: 200, body: traceDocument(packets, wallOffsetMs) };
    await sleep(look_ms);
  }
}

/** `pcapng`: base64. */
export function traceDocument(packets: readonly TracedPacket[], wallOffsetMs: number): object {
  const at = ({ atMs }: TracedPacket) => Math.round((atMs + wallOffsetMs) * 1_000);
  const captured = packets.flatMap((packet): readonly CapturedPacket[] =>
    [packet.before, packet.after].flatMap((data, place) =>
      data ? [{ at: at(packet), place, bytes: packet.bytes, data, comment: traceText(packet) }] : [],
    ),
  );
  return {
    steps: packets.map((packet) => ({
      at: formatInstant(at(packet)),
      verdict: packet.kind === 'packet' ? verdictName(packet.verdict) : packet.kind,
      text: traceText(packet),
    })),
    pcapng: pcapng(['before', 'after'], captured).toString('base64'),
  };
}
