import { err, ok, type Result } from '../net/result.ts';
import type { LeaseError } from './errors.ts';
import { hasLapsed, inEffect } from './expiry.ts';
import type { AccessToken, Lease, Session } from './model.ts';
import type { Needs } from './needs.ts';
import type { Context } from './use-case.ts';
import type { View } from './view.ts';

/**
 * How a use case answers once more without doing anything: what is kept of its answer, what must be loaded to give it
 * again, and the answer. Nothing here brings back what is over.
 */
export type Replay<T> = Readonly<{
  keep: (output: T) => string;
  needs: (kept: string, view: View) => Needs;
  answer: (kept: string, context: Context) => Result<T, LeaseError>;
}>;

/** The answer as it was given. What use cases do that say nothing else. */
// The kept text was made of an output of the same use case; the fingerprint of the request stands for that.
export const asAnswered: Replay<unknown> = {
  keep: (output) => JSON.stringify(output, encoded),
  *needs() {},
  answer: (kept) => ok(JSON.parse(kept, decoded) as unknown),
};

/** Leases as they are now, whose right to ports must stand: pending, active, or refused by the kernel before they had any. */
export const leasesThatStand: Replay<readonly Lease[]> = {
  keep: (leases) => JSON.stringify(leases.map(({ id }) => id)),
  needs: (kept, view) => leaseNeeds(view, idsIn(kept)),
  answer(kept, context) {
    const leases = idsIn(kept).map((id) => ({ id, lease: leaseNow(context, id) }));
    const standing = leases.flatMap(({ lease }) => (lease !== undefined && stands(lease) ? [lease] : []));
    if (standing.length === leases.length) return ok(standing);
    return err({ code: 'replay_over', items: leases.map(({ id, lease }) => itemOf(`lease-${id}`, lease)) });
  },
};

/** A lease as it is now, whatever became of it. */
export const leaseAsItIs: Replay<Lease> = {
  keep: ({ id }) => String(id),
  needs: (kept, view) => leaseNeeds(view, [Number(kept)]),
  answer(kept, context) {
    const lease = leaseNow(context, Number(kept));
    return lease ? ok(lease) : err({ code: 'replay_over', items: [itemOf(`lease-${kept}`, undefined)] });
  },
};

/** A session as it is now, which must be live. */
export const sessionThatLives: Replay<Session> = {
  keep: ({ id }) => String(id),
  *needs(kept) {
    yield [{ need: 'session', id: Number(kept) }];
  },
  answer(kept, context) {
    const session = context.view.sessions.get(Number(kept));
    if (session?.state === 'live' && !hasLapsed(session, context)) return ok(session);
    const ending = session?.ending ?? (session && 'expired') ?? null;
    return err({ code: 'replay_over', items: [{ item: `session-${kept}`, state: 'ended', ending }] });
  },
};

/** What has a secret that only the first answer had. */
export const secretShownOnce: Replay<AccessToken> = {
  keep: ({ id }) => String(id),
  *needs() {},
  answer: (kept) => err({ code: 'secret_shown_once', token: Number(kept) }),
};

/** A token as it is now. What its secret is compared with is kept with the token alone. */
export const tokenAsItIs: Replay<AccessToken> = {
  keep: ({ id }) => String(id),
  *needs(kept) {
    yield [{ need: 'accessToken', id: Number(kept) }];
  },
  answer(kept, { view }) {
    const token = view.accessTokens.get(Number(kept));
    return token ? ok(token) : err({ code: 'token_not_found', token: Number(kept) });
  },
};

/** The kept leases with some of them replaced, in order; undefined when not all of those are among them any more. */
export function replaceLeases(kept: string, gone: readonly number[], come: readonly Lease[]): string | undefined {
  const ids = idsIn(kept);
  if (!gone.every((id) => ids.includes(id))) return undefined;
  return JSON.stringify(ids.map((id) => come[gone.indexOf(id)]?.id ?? id));
}

/** Some of these leases are refused: no right to ports came of them. */
export const overOf = (leases: readonly Lease[]): LeaseError | undefined =>
  leases.every(({ state }) => state === 'pending' || state === 'active')
    ? undefined
    : { code: 'replay_over', items: leases.map((lease) => itemOf(`lease-${lease.id}`, lease)) };

const idsIn = (kept: string): readonly number[] => JSON.parse(kept) as number[];

function* leaseNeeds(view: View, ids: readonly number[]): Needs {
  yield [{ need: 'endingRevocations' }, ...ids.map((id) => ({ need: 'lease', id }) as const)];
  const sessions = new Set(ids.map((id) => view.leases.get(id)?.session ?? null));
  yield [...sessions].flatMap((id) => (id === null ? [] : [{ need: 'session', id } as const]));
}

/** Late is late, also here: the leases of a session that is past its time are over, whether or not it was swept. */
function leaseNow(context: Context, id: number): Lease | undefined {
  const { view } = context;
  const lease = view.leases.get(id);
  if (!lease) return lease;
  const session = lease.session === null ? undefined : view.sessions.get(lease.session);
  const isLate = session?.state === 'live' && hasLapsed(session, context);
  const term = isLate ? ({ state: 'ended', ending: 'expired', endedAt: session.expiresAt } as const) : session;
  return inEffect(lease, term, view.revocationsInEffect(id));
}

const stands = ({ state }: Lease): boolean => state === 'pending' || state === 'active' || state === 'refused';

/** What is no longer kept was over long ago. */
const itemOf = (item: string, lease: Lease | undefined) => ({
  item,
  state: lease?.state ?? 'ended',
  ending: lease?.ending ?? null,
});

// JSON has no form for the slots of an IPv6 prefix: `n:` and digits stand for them, and `s:` before text that looks so.
const encoded = (_: string, value: unknown): unknown =>
  typeof value === 'bigint' ? `n:${value}` : typeof value === 'string' && /^[ns]:/.test(value) ? `s:${value}` : value;
const decoded = (_: string, value: unknown): unknown => {
  if (typeof value !== 'string') return value;
  return value.startsWith('n:') ? BigInt(value.slice(2)) : value.startsWith('s:') ? value.slice(2) : value;
};
