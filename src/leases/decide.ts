import { err } from '../net/result.ts';
import { auditNeeds, changedSince, noteAct, noteDenials, nothingChanged } from './audit.ts';
import type { Command, CommandKind } from './commands.ts';
import { adoptSlice, forgoSlice } from './adoption.ts';
import { drainSlice, handOverSlice, moveSlice, reclaimSlice } from './hand-over.ts';
import { releaseLease } from './endings.ts';
import { explainGrant } from './explain.ts';
import { beginIfLost, confirmEpoch, isRefusedInDoubt, behindNeeds, weighSeen } from './epochs.ts';
import { grantLeases } from './grants.ts';
import { decideKeyed, keyedNeeds, type Answer } from './keyed.ts';
import { deleteHolder, putHolder } from './holders.ts';
import { agentKeepalive, createMachine, deleteMachine, updateMachine } from './machines.ts';
import { roundsOf, together, type Needs } from './needs.ts';
import { createPool, deletePool, updatePool } from './pools.ts';
import type { IdempotencyKey, Provenance } from './provenance.ts';
import { reportGranted } from './granted-reports.ts';
import { report } from './reports.ts';
import { revokeLease, revokeLeases } from './revocations.ts';
import { deleteRouter, putRouter, routerApplied } from './routers.ts';
import { endSession, keepSession, openSession } from './sessions.ts';
import { assignSlices, unblock } from './slices.ts';
import { sweep } from './sweep.ts';
import { createToken, noteTokenUses, revokeToken, rotateToken, updateToken } from './tokens.ts';
import type { Context, UseCase } from './use-case.ts';

const useCases: { readonly [K in CommandKind]: UseCase<K> } = {
  createPool,
  updatePool,
  deletePool,
  createMachine,
  updateMachine,
  deleteMachine,
  putHolder,
  deleteHolder,
  assignSlices,
  drainSlice,
  moveSlice,
  handOverSlice,
  reclaimSlice,
  adoptSlice,
  forgoSlice,
  unblock,
  openSession,
  keepSession,
  endSession,
  grantLeases,
  explainGrant,
  releaseLease,
  revokeLease,
  revokeLeases,
  report,
  reportGranted,
  agentKeepalive,
  putRouter,
  deleteRouter,
  routerApplied,
  createToken,
  updateToken,
  rotateToken,
  revokeToken,
  noteTokenUses,
  noteDenials,
  weighSeen,
  confirmEpoch,
  sweep,
};

/** A command as it waits. A dry run is decided like any other, among all that it came with, and leaves no trace. */
export type Order<K extends CommandKind = CommandKind> = Readonly<{
  command: Command<K>;
  dryRun: boolean;
  provenance: Provenance | undefined;
}>;

/** What became of one command: its result, or the bug that kept it from having one. */
export type Outcome = Readonly<{ result: Answer<CommandKind> }> | Readonly<{ bug: unknown }>;

/** Everything that a batch must have loaded before `decideAll`, round by round. */
export const needsOf = (batch: readonly Order[], context: Context): Needs =>
  roundsOf(
    batch.map((order) => needsOfOne(order, context)),
    context.view,
  );

function needsOfOne<K extends CommandKind>(order: Order<K>, context: Context): Needs {
  const key = keyOf(order);
  const useCase = useCaseOf(order.command);
  const needs = [
    key === null ? useCase.needs(order.command, context) : keyedNeeds(useCase, order.command, key, context),
    ...(context.view.epoch === 1 ? [] : [behindNeeds(context.view, order.command.kind)]),
    ...(isAudited(order) ? [auditNeeds()] : []),
  ];
  const [only] = needs;
  return only && needs.length === 1 ? only : together(needs);
}

const isAudited = ({ dryRun, provenance }: Pick<Order, 'dryRun' | 'provenance'>): boolean =>
  !dryRun && provenance?.audit != null;

/** What is only tried is no request that could come again: nothing is kept of it, and it is nothing that was kept. */
const keyOf = ({ dryRun, provenance }: Pick<Order, 'dryRun' | 'provenance'>): IdempotencyKey | null =>
  dryRun ? null : (provenance?.key ?? null);

/**
 * Decides the commands in order. Each sees what those before it did; one that is refused, that was to be tried only, or
 * that runs into a bug, is undone and does not touch the others.
 */
export function decideAll(batch: readonly Order[], context: Context): readonly Outcome[] {
  beginIfLost(context.view);
  return batch.map((order) => decide(order, context));
}

function decide<K extends CommandKind>(order: Order<K>, context: Context): Outcome {
  const { view } = context;
  if (isRefusedInDoubt(view, order.command.kind)) {
    const result = err({ code: 'read_only_epoch' as const, epoch: view.epoch, isConfirmed: !view.isInDoubt });
    if (order.provenance && isAudited(order))
      noteAct(view, order.provenance, result, { ...nothingChanged, before: view.revision });
    return { result };
  }
  const mark = view.mark();
  const before = view.revision;
  try {
    const key = keyOf(order);
    const useCase = useCaseOf(order.command);
    const result =
      key === null ? useCase.decide(order.command, context) : decideKeyed(useCase, order.command, key, context);
    const changed = result.ok && isAudited(order) ? changedSince(view, mark) : nothingChanged;
    if (!result.ok || order.dryRun) view.rewindTo(mark);
    if (order.provenance && isAudited(order)) noteAct(view, order.provenance, result, { ...changed, before });
    return { result };
  } catch (bug) {
    view.rewindTo(mark);
    return { bug };
  }
}

/** The compiler cannot see that the table's entry under `command.kind` takes this very command; its own type says so. */
const useCaseOf = <K extends CommandKind>(command: Command<K>): UseCase<K> => useCases[command.kind];
