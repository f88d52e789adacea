import { err, ok, type Result } from '../net/result.ts';
import type { LeaseError } from './errors.ts';
import { deadlineOf, hasLapsed } from './expiry.ts';
import { holderKey, type Session, type SessionEnding } from './model.ts';
import type { Needs } from './needs.ts';
import { sessionThatLives } from './replays.ts';
import { outOfScope, scopeNeeds } from './scope.ts';
import type { Scope } from './commands.ts';
import type { Context, UseCase } from './use-case.ts';
import type { View } from './view.ts';

export const openSession: UseCase<'openSession'> = {
  replay: sessionThatLives,

  *needs({ machine, holder }, { view, now, startedAt }) {
    yield [
      { need: 'machine', id: machine },
      { need: 'holder', machine, name: holder },
    ];
    const max = view.holders.get(holderKey(machine, holder))?.limits?.sessionsMax ?? null;
    if (max !== null) yield [{ need: 'liveSessions', machine, holder, now, up: now - startedAt }];
  },

  decide({ scope, machine, holder, ttlUs }, context) {
    const { view, now } = context;
    if (!view.machines.get(machine)) return err({ code: 'machine_not_found', machine });
    const known = view.holders.get(holderKey(machine, holder));
    if (!known) return err({ code: 'holder_not_found', machine, holder });
    const foreign = outOfScope(view, scope, { machine, holder }, `holder ${holder} on ${machine}`);
    if (foreign) return err(foreign);
    const max = known.limits?.sessionsMax ?? null;
    if (max !== null && view.liveSessionsOf(machine, holder, context) >= max)
      return err({ code: 'holder_sessions_exceeded', machine, holder, max });
    return ok(
      putSession(view, machine, (revision, at) => ({
        id: revision,
        machine,
        holder,
        state: 'live',
        ending: null,
        settled: false,
        ttlUs,
        expiresAt: now + ttlUs,
        openedAt: at,
        endedAt: null,
        revision,
      })),
    );
  },
};

/** One row and no event, however many leases live by it. */
export const keepSession: UseCase<'keepSession'> = {
  *needs({ scope, id }, { view }) {
    yield* sessionNeeds(view, scope, id);
    const session = view.beganInDoubt ? view.sessions.get(id) : undefined;
    if (session) yield [{ need: 'machine', id: session.machine }];
  },

  decide({ scope, id }, context) {
    const { view, now } = context;
    const found = liveSession(context, scope, id);
    if (!found.ok) return found;
    // On a machine with an agent the host knows better than the table who has which port; elsewhere nobody does.
    const isKnown = view.beganInDoubt && view.machines.get(found.value.machine)?.enforcement === 'agent';
    if (view.isInDoubt && !isKnown) return err({ code: 'read_only_epoch', epoch: view.epoch, isConfirmed: false });
    const session = { ...found.value, expiresAt: Math.max(found.value.expiresAt, now + found.value.ttlUs) };
    view.sessions.put(session);
    return ok(session);
  },
};

/** Ends all its leases too: one row and one event, the leases' own rows follow in the sweep. */
export const endSession: UseCase<'endSession'> = {
  needs: ({ scope, id }, { view }) => sessionNeeds(view, scope, id),

  decide({ scope, id, ending }, context) {
    const found = liveSession(context, scope, id);
    return found.ok ? ok(finishSession(context.view, found.value, ending)) : found;
  },
};

export const finishSession = (view: View, session: Session, ending: SessionEnding): Session =>
  putSession(view, session.machine, (revision, at) => ({ ...session, state: 'ended', ending, endedAt: at, revision }));

export function* sessionNeeds(view: View, scope: Scope, id: number): Needs {
  yield [{ need: 'session', id }];
  const session = view.sessions.get(id);
  if (session) yield scopeNeeds(scope, session);
}

/** The session, if it is in scope and neither ended nor past its time. */
export function liveSession(context: Context, scope: Scope, id: number): Result<Session, LeaseError> {
  const session = context.view.sessions.get(id);
  if (!session) return err({ code: 'session_not_found', session: id });
  const foreign = outOfScope(context.view, scope, session, `session-${id}`);
  if (foreign) return err(foreign);
  if (session.state === 'ended')
    return err({ code: 'session_ended', session: id, ending: session.ending ?? 'released' });
  if (hasLapsed(session, context)) return err({ code: 'session_ended', session: id, ending: 'expired' });
  return ok(session);
}

/** A session that seems overdue, but had no server to be kept alive at: its full TTL from the start becomes durable. */
export const extendSession = (view: View, session: Session, startedAt: number): void =>
  view.sessions.put({ ...session, expiresAt: deadlineOf(session, startedAt) });

function putSession(view: View, machine: string, make: (revision: number, at: number) => Session): Session {
  const { session } = view.log(machine, (revision, at) => ({ kind: 'session', session: make(revision, at) }));
  view.sessions.put(session);
  return session;
}
