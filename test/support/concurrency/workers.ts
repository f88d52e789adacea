import { setTimeout as sleep } from 'node:timers/promises';
import type { Lease } from '../../../src/wire/leases.ts';
import type { Slice } from '../../../src/wire/slices.ts';
import type { Asker } from './asking.ts';
import type { Ledger } from './ledger.ts';

type Parts = Readonly<{ ledger: Ledger; signal: AbortSignal; random: () => number }>;

const pick = <T>(items: readonly T[], random: () => number): T | undefined =>
  items[Math.floor(random() * items.length)];

/** Asked anew: the compiler takes what it saw before a wait for what is. */
const isOver = (signal: AbortSignal): boolean => signal.aborted;

/** One holder's program: opens a session, takes ports, gives them back, and now and then ends all at once. */
export async function hold(
  asker: Asker,
  of: Readonly<{ machine: string; holder: string }>,
  { ledger, signal, random }: Parts,
): Promise<void> {
  while (!signal.aborted) {
    const opened = await asker.ask((client, idempotencyKey) =>
      client.sessions.open({ ...of, ttl_s: 3_600 }, { idempotencyKey }),
    );
    if (!opened) continue;
    const session = opened.value.id;
    const held: Lease[] = [];
    for (let turn = 0; turn < 30 && !isOver(signal); turn++) {
      const isFull = held.length > 6;
      if (!isFull && random() < 0.6) held.push(...(await take(asker, session, ledger, random)));
      else {
        const [lease] = held.splice(Math.floor(random() * held.length), 1);
        if (lease) await giveBack(asker, lease, ledger);
      }
    }
    if (random() < 0.5) {
      const sentMs = ledger.now();
      for (const { id } of held) ledger.ended.push({ id, by: 'released', sentMs, answered: null });
      await asker.ask((client, idempotencyKey) => client.sessions.end(session, { idempotencyKey }));
    }
  }
}

async function take(asker: Asker, session: string, ledger: Ledger, random: () => number): Promise<readonly Lease[]> {
  const shapes = [
    [{ protocol: 'tcp', ports: 1 + Math.floor(random() * 8) }],
    [
      { protocol: 'udp', ports: 4 },
      { protocol: 'tcp', ports: 2 },
    ],
    [{ protocol: 'tcp', mode: 'shared', ports: 16 }],
    [{ protocol: 'icmp', ports: 1 }],
  ] as const;
  const claims = [...(pick(shapes, random) ?? shapes[0])];
  const granted = await asker.ask((client, idempotencyKey) =>
    client.leases.grant({ session, claims }, { idempotencyKey }),
  );
  if (!granted) return [];
  const { value, ...span } = granted;
  // What was over by the time that a repeated request was answered is told as it is, and is nobody's to hold.
  for (const lease of value.leases) ledger.granted.push({ lease, ...span });
  return value.leases;
}

async function giveBack(asker: Asker, lease: Lease, ledger: Ledger): Promise<void> {
  const sentMs = ledger.now();
  const entry = { id: lease.id, by: 'released', sentMs } as const;
  const index = ledger.ended.push({ ...entry, answered: null }) - 1;
  const released = await asker.ask((client, idempotencyKey) => client.leases.release(lease, { idempotencyKey }));
  if (released) ledger.ended[index] = { ...entry, answered: released.value };
}

/** An operator who takes leases away from whoever has them. */
export async function revoke(asker: Asker, { ledger, signal, random }: Parts): Promise<void> {
  while (!signal.aborted) {
    await sleep(50 + random() * 150);
    const target = pick(ledger.granted.slice(-300), random);
    if (!target) continue;
    const entry = { id: target.lease.id, by: 'revoked', sentMs: ledger.now() } as const;
    const index = ledger.ended.push({ ...entry, answered: null }) - 1;
    const revoked = await asker.ask((client, idempotencyKey) =>
      client.leases.revoke(target.lease.id, { reason: 'a test' }, { idempotencyKey }),
    );
    if (revoked) ledger.ended[index] = { ...entry, answered: revoked.value };
  }
}

/** An operator who takes all that a holder has, at once. */
export async function revokeAll(
  asker: Asker,
  whose: readonly Readonly<{ machine: string; holder: string }>[],
  { ledger, signal, random }: Parts,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(500 + random() * 1_500);
    const one = pick(whose, random);
    if (!one) continue;
    const covers = ({ machine, holder }: Lease) => machine === one.machine && holder === one.holder;
    const entry = { by: 'revoked', sentMs: ledger.now(), covers } as const;
    const index = ledger.taken.push({ ...entry, throughMs: Infinity, revocation: null }) - 1;
    const revoked = await asker.ask((client, idempotencyKey) =>
      client.revocations.create({ ...one, forced: true, reason: 'a test' }, { idempotencyKey }),
    );
    if (revoked) ledger.taken[index] = { ...entry, throughMs: revoked.answeredMs, revocation: revoked.value.id };
  }
}

/** An operator who moves slices from machine to machine, or takes one away and gives another. */
export async function shift(
  asker: Asker,
  machines: readonly string[],
  pool: string,
  { ledger, signal, random }: Parts,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(200 + random() * 400);
    const listed = await asker.ask((client) => client.slices.list({ state: 'assigned', limit: 100 }));
    const slice: Slice | undefined = pick(listed?.value.items ?? [], random);
    const machine = pick(
      machines.filter((name) => name !== slice?.machine),
      random,
    );
    if (!slice || machine === undefined) continue;
    const isMove = random() < 0.6;
    const seen = { id: slice.id, revision: '*' } as const;
    const entry = {
      by: isMove ? 'moved' : 'revoked',
      sentMs: ledger.now(),
      throughMs: Infinity,
      revocation: null,
    } as const;
    const index = ledger.taken.push({ ...entry, covers: (lease) => lease.slice === slice.id }) - 1;
    const taken = await asker.ask((client, idempotencyKey) =>
      isMove
        ? client.slices.move(seen, { machine, deadline_s: 1 }, { idempotencyKey })
        : client.slices.drain(seen, { deadline_s: 1 }, { idempotencyKey }),
    );
    // What it is for its next machine has a higher generation.
    const generation = taken?.value.generation;
    if (generation !== undefined)
      ledger.taken[index] = {
        ...entry,
        covers: (lease) => lease.slice === slice.id && lease.token.startsWith(`${generation}.`),
      };
    if (taken && !isMove)
      await asker.ask((client, idempotencyKey) =>
        client.slices.assign({ machine, pool, count: 1 }, { idempotencyKey }),
      );
  }
}
