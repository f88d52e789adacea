import { ok } from '../net/result.ts';
import type { Answer } from './keyed.ts';
import type { CommandKind } from './commands.ts';
import { limits } from './limits.ts';
import type { AuditChange, AuditEntry } from './model.ts';
import type { Needs } from './needs.ts';
import type { Provenance } from './provenance.ts';
import type { Change } from './table.ts';
import { factsOf } from './tokens.ts';
import type { UseCase } from './use-case.ts';
import type { View } from './view.ts';

/** What has to be known to write the next entry. */
export function* auditNeeds(): Needs {
  yield [{ need: 'auditEnd' }];
}

/** Writes down what somebody did who answers for it, and what came of it: in the transaction of the change, if there was one. */
export function noteAct(
  view: View,
  provenance: Provenance,
  answer: Answer<CommandKind>,
  { before, ...changed }: Changed & Readonly<{ before: number }>,
): void {
  const { audit, requestId } = provenance;
  if (audit === null) return;
  const { actor, remoteAddress, operation, target } = audit;
  view.putAudit({
    at: view.now,
    ...{ token: actor.token, tokenName: actor.name, role: actor.role, requestId, remoteAddress, operation },
    // What was made has its name only now.
    target: changed.changes.map(itemOf).find((item) => item.startsWith(`${target}/`)) ?? target,
    outcome: answer.ok ? (answer.replayed ? 'replayed' : 'done') : 'refused',
    code: answer.ok ? null : answer.error.code,
    revision: changed.changes.length > 0 ? view.revision : null,
    firstRevision: view.revision > before ? before + 1 : null,
    ...changed,
  });
}

export type Changed = Pick<AuditEntry, 'changes' | 'changesOmitted'>;
export const nothingChanged: Changed = { changes: [], changesOmitted: 0 };

/** What became since `mark` of the things that operators know by name; ports and extents follow from them. */
export function changedSince(view: View, mark: number): Changed {
  const of = <K extends string, Row>(kind: K, changes: readonly Change<Row>[]) =>
    changes.map(({ before, after }) => ({ kind, before: before ?? null, after: after ?? null }));
  const facts = view.accessTokens
    .changesSince(mark)
    .map(({ before, after }) => ({ before: before && factsOf(before), after: after && factsOf(after) }));
  const all: readonly AuditChange[] = [
    ...of('pool', view.pools.changesSince(mark)),
    ...of('machine', view.machines.changesSince(mark)),
    ...of('holder', view.holders.changesSince(mark)),
    ...of('router', view.routers.changesSince(mark)),
    ...of('slice', view.slices.changesSince(mark)),
    ...of('session', view.sessions.changesSince(mark)),
    ...of('lease', view.leases.changesSince(mark)),
    ...of('revocation', view.revocations.changesSince(mark)),
    ...of('token', facts),
    ...of('epoch', view.epochs.changesSince(mark)),
  ];
  const changes = all.slice(0, limits.audit_changes_max);
  return { changes, changesOmitted: all.length - changes.length };
}

/** The revision at which a thing came to be, where its path tells: `leases/lease-42`. */
export const madeAt = (target: string): number | null => {
  const [, kind, word, number] = /^([a-z]+)\/([a-z]+)-([1-9]\d{0,15})$/.exec(target) ?? [];
  return kind !== undefined && kind === `${word}s` ? Number(number) : null;
};

/** Whether the entry is about the thing: it was meant by it, or came to be by it, as one of many perhaps. */
export function isAbout({ changes, changesOmitted, ...entry }: AuditEntry, target: string): boolean {
  if (entry.target === target) return true;
  const made = madeAt(target);
  const { firstRevision, revision } = entry;
  if (made === null || firstRevision === null || revision === null || made < firstRevision || revision < made)
    return false;
  const isSame = (item: string) => item === target || (changesOmitted > 0 && sameKind(item, target));
  return changes.some((change) => change.before === null && isSame(itemOf(change)));
}

const sameKind = (item: string, target: string): boolean => item.split('/', 1)[0] === target.split('/', 1)[0];

/** A thing as its path names it: `pools/eu`, `slices/slice-12`. */
export function itemOf(change: AuditChange): string {
  switch (change.kind) {
    case 'holder':
      return `machines/${rowOf(change).machine}/holders/${rowOf(change).name}`;
    case 'pool':
    case 'machine':
    case 'router':
      return `${change.kind}s/${rowOf<{ id: string }>(change).id}`;
    case 'epoch':
      return `epochs/${rowOf(change).number}`;
    default:
      return `${change.kind}s/${change.kind}-${rowOf<{ id: number }>(change).id}`;
  }
}

function rowOf<Row>({ before, after }: Readonly<{ before: Row | null; after: Row | null }>): Row {
  const row = after ?? before;
  if (row === null) throw new Error('neither before nor after there was anything');
  return row;
}

/** Requests that were turned away before they came to any decision. Told in batches, a little later. */
export const noteDenials: UseCase<'noteDenials'> = {
  needs: auditNeeds,

  decide({ denials }, { view, now }) {
    for (const { agoUs, ...denial } of denials)
      view.putAudit({
        ...denial,
        at: now - agoUs,
        outcome: 'denied',
        revision: null,
        firstRevision: null,
        ...nothingChanged,
      });
    return ok({ noted: denials.length });
  },
};
