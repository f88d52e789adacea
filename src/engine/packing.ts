import type { CommandKind } from '../leases/commands.ts';
import type { Answer } from '../leases/keyed.ts';
import type { Event, Lease } from '../leases/model.ts';

/**
 * A lease as it crosses between threads, with the instant of its event: by position, because the names of its fields would
 * be copied with each, which costs three times as much as the values.
 */
// prettier-ignore
type LeaseRow = readonly [
  at: number, id: number, slice: number, generation: number, epoch: number, session: number | null,
  unit: string | null, machine: string, holder: string, pool: string, address: Lease['address'],
  protocol: Lease['protocol'], first: number, last: number, mode: Lease['mode'], binding: Lease['binding'],
  state: Lease['state'], ending: Lease['ending'], refusal: Lease['refusal'], reason: string | null,
  grantedAt: number, activeAt: number | null, endingAt: number | null, emptyAt: number | null,
  reusableAt: number | null, endedAt: number | null, revision: number, forced: boolean,
];

/** Events of leases and answers that consist of these very leases carry their places among the rows; others are whole. */
export type Packed = Readonly<{
  rows: readonly LeaseRow[];
  events: readonly (number | Event)[];
  answers: readonly (Answer<CommandKind> | readonly number[])[];
}>;

export function pack(events: readonly Event[], answers: readonly Answer<CommandKind>[]): Packed {
  const rows: LeaseRow[] = [];
  const places = new Map<unknown, number>();
  const packedEvents = events.map((event) => {
    if (event.kind !== 'lease' || event.revision !== event.lease.revision || event.machine !== event.lease.machine)
      return event;
    places.set(event.lease, rows.length);
    return rows.push(rowOf(event.lease, event.at)) - 1;
  });
  return { rows, events: packedEvents, answers: answers.map((answer) => placesOf(answer, places) ?? answer) };
}

export function unpack({ rows, events, answers }: Packed): Readonly<{
  events: readonly Event[];
  answers: readonly Answer<CommandKind>[];
}> {
  const leases = rows.map(leaseOf);
  const at = (place: number): Lease => {
    const lease = leases[place];
    if (!lease) throw new Error(`there is no lease at ${place} among ${leases.length}`);
    return lease;
  };
  return {
    events: events.map((event): Event => {
      if (typeof event !== 'number') return event;
      const lease = at(event);
      return { revision: lease.revision, at: rows[event]?.[0] ?? NaN, machine: lease.machine, kind: 'lease', lease };
    }),
    answers: answers.map((answer) => ('ok' in answer ? answer : { ok: true, value: answer.map(at) })),
  };
}

/** Where the leases of an answer are that is nothing but leases among the rows. */
function placesOf(answer: Answer<CommandKind>, places: ReadonlyMap<unknown, number>): readonly number[] | undefined {
  if (!answer.ok || answer.replayed === true || !Array.isArray(answer.value)) return undefined;
  const found: number[] = [];
  for (const item of answer.value) {
    const place = places.get(item);
    if (place === undefined) return undefined;
    found.push(place);
  }
  return found;
}

// prettier-ignore
const rowOf = (lease: Lease, at: number): LeaseRow => [
  at, lease.id, lease.slice, lease.generation, lease.epoch, lease.session,
  lease.unit, lease.machine, lease.holder, lease.pool, lease.address,
  lease.protocol, lease.ports.first, lease.ports.last, lease.mode, lease.binding,
  lease.state, lease.ending, lease.refusal, lease.reason,
  lease.grantedAt, lease.activeAt, lease.endingAt, lease.emptyAt,
  lease.reusableAt, lease.endedAt, lease.revision, lease.forced,
];

const leaseOf = (row: LeaseRow): Lease => ({
  id: row[1],
  slice: row[2],
  generation: row[3],
  epoch: row[4],
  session: row[5],
  unit: row[6],
  machine: row[7],
  holder: row[8],
  pool: row[9],
  address: row[10],
  protocol: row[11],
  ports: { first: row[12], last: row[13] },
  mode: row[14],
  binding: row[15],
  state: row[16],
  ending: row[17],
  refusal: row[18],
  reason: row[19],
  grantedAt: row[20],
  activeAt: row[21],
  endingAt: row[22],
  emptyAt: row[23],
  reusableAt: row[24],
  endedAt: row[25],
  revision: row[26],
  forced: row[27],
});
