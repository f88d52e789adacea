import { err, ok } from '../net/result.ts';
import type { CommandKind } from './commands.ts';
import { limits } from './limits.ts';
import { isLostTo, type Epoch, type EpochCause, type Machine } from './model.ts';
import type { Needs } from './needs.ts';
import type { UseCase } from './use-case.ts';
import type { Loss, View } from './view.ts';

/**
 * A table that was restored from a backup, or lost its end in a failover, must not hand out ports twice. What shows it is
 * evidence: of the store (a high-water mark, the identity of the database, a log that went back) or of a client that has
 * seen more. Evidence makes an epoch begin, which is in doubt until somebody makes sure (docs/decisions/0011).
 */

/** What is safe however much the table lacks: it gives nobody a port, and takes none back. */
const carriedOutInDoubt: ReadonlySet<CommandKind> = new Set<CommandKind>([
  // The hosts go on as they are, which was without overlap.
  'agentKeepalive',
  'keepSession',
  'weighSeen',
  'confirmEpoch',
  // Whoever has to mend it must get in, and whoever should not must be kept out.
  'createToken',
  'updateToken',
  'rotateToken',
  'revokeToken',
  'noteTokenUses',
  'noteDenials',
]);

/** What gives ports or slices to somebody who has not had them. */
const gives: ReadonlySet<CommandKind> = new Set<CommandKind>(['grantLeases', 'explainGrant', 'assignSlices', 'sweep']);

/**
 * Nor is anything given for a while after an operator's word: a machine that was answered since the backup drops what the
 * table lost as soon as it hears of it, and until then its guard is open for that.
 */
export const isRefusedInDoubt = (view: View, kind: CommandKind): boolean =>
  view.isInDoubt
    ? !carriedOutInDoubt.has(kind)
    : gives.has(kind) && mayBeBehind(view) && !isFirst(view) && view.isAnyMachine('behind') !== false;

/** Whether it is so short a time since the doubt ended that guards may be open since before. */
const mayBeBehind = ({ epoch, confirmedAt, now }: View): boolean =>
  epoch > 1 && confirmedAt !== null && now < confirmedAt + limits.fence_us_max + limits.clock_skew_us;

/** A table that was made anew has lost nothing, with whatever number its epochs begin. */
const isFirst = (view: View): boolean => view.epochs.get(view.epoch)?.cause === 'first';

/** What `isRefusedInDoubt` looks at. */
export function* behindNeeds(view: View, kind: CommandKind): Needs {
  if (!gives.has(kind) || !mayBeBehind(view)) return;
  yield [{ need: 'epoch', number: view.epoch }];
  const epoch = view.epochs.get(view.epoch);
  if (!epoch || isFirst(view)) return;
  const { beganAt: since, after, from } = epoch;
  yield [{ need: 'behind', since, after, from, openAt: view.now - limits.clock_skew_us }];
}

/** What the store found out comes before anything that is decided on what it loaded. */
export function beginIfLost(view: View): void {
  if (view.loss) beginEpoch(view, view.loss);
}

export const weighSeen: UseCase<'weighSeen'> = {
  *needs({ epoch }, { view }) {
    yield [
      { need: 'epoch', number: view.epoch },
      { need: 'epochById', id: epoch },
    ];
  },

  decide({ epoch: id, revision, witness, newId }, { view }) {
    // One doubt is enough, and the epoch that is in it is above all that was given out.
    if (view.isInDoubt) return ok({ epoch: view.epoch, isInDoubt: true });
    const known = view.epochById(id);
    // What was lost to a former epoch was found out then.
    if (known && (known.number !== view.epoch || revision <= view.revision))
      return ok({ epoch: view.epoch, isInDoubt: false });
    const cause = known ? 'client_saw_more' : 'client_knows_other';
    const detail = known
      ? `${witness} has seen revision ${revision}, the log ends at ${view.revision}`
      : `${witness} has seen revision ${revision} of epoch ${id}, which this table was never in`;
    beginEpoch(view, { cause, detail, revision, newId });
    return ok({ epoch: view.epoch, isInDoubt: true });
  },
};

export const confirmEpoch: UseCase<'confirmEpoch'> = {
  *needs({ number }, { view }) {
    yield [{ need: 'epoch', number: view.epoch }];
    yield [{ need: 'epoch', number }];
  },

  decide({ number, by }, { view }) {
    const epoch = view.epochs.get(number);
    if (!epoch || number !== view.epoch) return err({ code: 'epoch_superseded', epoch: number, current: view.epoch });
    if (epoch.confirmedAt !== null) return ok(epoch);
    return ok(putEpoch(view, (revision, at) => ({ ...epoch, confirmedAt: at, confirmedBy: by, revision })));
  },
};

/**
 * Evidence that came before anything was decided, of a table that is the beginning of what was lost: a revision that it has
 * is the same there. What a client shows comes later, when others may have been answered under the same numbers.
 */
const foundAtOnce: ReadonlySet<EpochCause> = new Set<EpochCause>([
  'older_than_mark',
  'other_database',
  'log_went_back',
]);

/** When no machine can send any more that was never answered since the doubt began: one that the table lacks, above all. */
const allFencedAt = ({ beganAt }: Epoch): number => beganAt + limits.fence_us_max + limits.clock_skew_us;

/** What the keepalive of a machine needs known once a table may have lost something. Before that, nothing. */
export function* epochNeeds(view: View, machine: string): Needs {
  if (view.epoch === 1 && !view.isInDoubt) return;
  yield [{ need: 'epoch', number: view.epoch }];
  const epoch = view.epochs.get(view.epoch);
  if (epoch && view.isInDoubt && view.now >= allFencedAt(epoch))
    yield [{ need: 'unheard', except: machine, since: epoch.beganAt, after: epoch.after }];
}

/** Whether a machine made true what the table has lost: the answer would open its guard for ports that may be another's. */
export function hasAppliedLost(view: View, revision: number): boolean {
  if (view.epoch === 1 || view.isInDoubt) return false;
  const epoch = view.epochs.get(view.epoch);
  return epoch !== undefined && isLostTo(epoch, revision);
}

/**
 * The doubt is over by itself when every machine has told, since it began, that it made nothing true which the table lacks,
 * and whoever else there may be has fenced. A machine without an agent tells nothing: then an operator has to.
 */
export function endDoubtIfAllTold(view: View, { agent, enforcement }: Machine): void {
  const epoch = view.isInDoubt ? view.epochs.get(view.epoch) : undefined;
  if (!epoch || !foundAtOnce.has(epoch.cause) || agent === null || enforcement === 'none') return;
  if (agent.appliedRevision > epoch.after) return;
  if (view.isAnyMachine('unheard') === false && view.now >= allFencedAt(epoch))
    putEpoch(view, (revision, at) => ({ ...epoch, confirmedAt: at, confirmedBy: 'machines', revision }));
}

function beginEpoch(view: View, { cause, detail, revision: seen, newId }: Loss): void {
  const { epoch_revisions: span, epochs_ahead_max } = limits;
  const after = view.revision;
  const own = Math.floor(after / span);
  const shown = Math.floor(seen / span);
  const turn = (shown - own <= epochs_ahead_max ? Math.max(own, shown) : own) + 1;
  const number = Math.max(turn + 1, view.epoch + 1);
  const id = view.database === undefined ? newId : `${newId}.${view.database}`;
  const terms = { number, id, cause, detail, after, confirmedAt: null, confirmedBy: null };
  view.enterEpoch(terms, turn * span);
  putEpoch(view, (revision, at) => ({ ...terms, from: revision, beganAt: at, revision }));
}

function putEpoch(view: View, make: (revision: number, at: number) => Epoch): Epoch {
  const { epoch } = view.log(null, (revision, at) => ({ kind: 'epoch', epoch: make(revision, at) }));
  view.epochs.put(epoch);
  view.enterEpoch(epoch, view.revision);
  return epoch;
}
