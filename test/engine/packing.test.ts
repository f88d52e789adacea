import { describe, expect, it } from 'vitest';
import { pack, unpack } from '../../src/engine/packing.ts';
import type { CommandKind } from '../../src/leases/commands.ts';
import type { Answer } from '../../src/leases/keyed.ts';
import type { Event, Lease } from '../../src/leases/model.ts';
import { ipv4FromNumber } from '../../src/net/address.ts';

/** Every field has a value that no other field of its kind has, so that none can be taken for another. */
const lease = (id: number): Lease => ({
  ...{ id, slice: 2, generation: 3, epoch: 4, session: 5, unit: 'unit', machine: 'machine', holder: 'holder' },
  ...{ pool: 'pool', address: ipv4FromNumber(0xc6_33_64_01), protocol: 'tcp', ports: { first: 6, last: 7 } },
  ...{ mode: 'shared', binding: 'explicit', state: 'cooling', ending: 'revoked' },
  ...{ refusal: { errno: 'EADDRINUSE', detail: 'port 6' }, reason: 'reason', forced: true },
  ...{ grantedAt: 8, activeAt: 9, endingAt: 10, emptyAt: 11, reusableAt: 12, endedAt: 13, revision: id },
});
const eventOf = (item: Lease): Event => ({
  ...{ revision: item.revision, at: 1_000 + item.id, machine: item.machine, kind: 'lease', lease: item },
});
const deleted: Event = { revision: 90, at: 91, machine: null, kind: 'deleted', what: 'pool', id: 'p' };

const cross = (events: readonly Event[], answers: readonly Answer<CommandKind>[]) =>
  unpack(structuredClone(pack(events, answers)));

describe('what an engine has to say', () => {
  it('arrives as it was said: events of leases and of other things, in their order', () => {
    const events = [eventOf(lease(21)), deleted, eventOf({ ...lease(22), refusal: null, session: null })];
    expect(cross(events, [])).toEqual({ events, answers: [] });
  });

  it('arrives as it was said: answers of leases that events tell of, others, refusals and repetitions', () => {
    const told = [lease(31), lease(32)];
    const answers: Answer<CommandKind>[] = [
      { ok: true, value: told },
      { ok: true, value: [lease(33)] },
      { ok: true, value: [] },
      { ok: true, value: told, replayed: true },
      { ok: true, value: lease(31) },
      { ok: false, error: { code: 'pool_exists', pool: 'p' } },
    ];
    const events = told.map(eventOf);
    expect(cross(events, answers)).toEqual({ events, answers });
  });

  it('has a lease in it once, however often it is mentioned', () => {
    const told = [lease(41)];
    const { rows, events, answers } = pack(told.map(eventOf), [{ ok: true, value: told }]);
    expect([rows.length, events, answers]).toEqual([1, [0], [[0]]]);
  });

  it('keeps an event whole that says something else than its lease', () => {
    const odd: Event = { ...eventOf(lease(51)), machine: 'another' };
    expect(cross([odd], []).events).toEqual([odd]);
  });
});
