import type { Result } from '../net/result.ts';
import type { Command, CommandKind, Output } from './commands.ts';
import { releaseLease, revokeLease } from './endings.ts';
import type { LeaseError } from './errors.ts';
import { grantLeases } from './grants.ts';
import { agentKeepalive, createMachine, putHolder, updateMachine } from './machines.ts';
import { roundsOf, type Needs } from './needs.ts';
import { createPool, deletePool, updatePool } from './pools.ts';
import { report } from './reports.ts';
import { deleteRouter, putRouter, routerApplied } from './routers.ts';
import { endSession, keepSession, openSession } from './sessions.ts';
import { assignSlices, drainSlice, unblock } from './slices.ts';
import { sweep } from './sweep.ts';
import { createToken, noteTokenUses, revokeToken, rotateToken, updateToken } from './tokens.ts';
import type { Context, UseCase } from './use-case.ts';

const useCases: { readonly [K in CommandKind]: UseCase<K> } = {
  createPool,
  updatePool,
  deletePool,
  createMachine,
  updateMachine,
  putHolder,
  assignSlices,
  drainSlice,
  unblock,
  openSession,
  keepSession,
  endSession,
  grantLeases,
  releaseLease,
  revokeLease,
  report,
  agentKeepalive,
  putRouter,
  deleteRouter,
  routerApplied,
  createToken,
  updateToken,
  rotateToken,
  revokeToken,
  noteTokenUses,
  sweep,
};

/** A command as it waits. A dry run is decided like any other, among all that it came with, and leaves no trace. */
export type Order = Readonly<{ command: Command; dryRun: boolean }>;

/** What became of one command: its result, or the bug that kept it from having one. */
export type Outcome = Readonly<{ result: Result<Output<CommandKind>, LeaseError> }> | Readonly<{ bug: unknown }>;

/** Everything that a batch must have loaded before `decideAll`, round by round. */
export const needsOf = (batch: readonly Order[], context: Context): Needs =>
  roundsOf(
    batch.map(({ command }) => useCaseOf(command).needs(command, context)),
    context.view,
  );

/**
 * Decides the commands in order. Each sees what those before it did; one that is refused, that was to be tried only, or
 * that runs into a bug, is undone and does not touch the others.
 */
export const decideAll = (batch: readonly Order[], context: Context): readonly Outcome[] =>
  batch.map(({ command, dryRun }) => decide(command, dryRun, context));

function decide<K extends CommandKind>(command: Command<K>, dryRun: boolean, context: Context): Outcome {
  const { view } = context;
  const mark = view.mark();
  try {
    const result = useCaseOf(command).decide(command, context);
    if (!result.ok || dryRun) view.rewindTo(mark);
    return { result };
  } catch (bug) {
    view.rewindTo(mark);
    return { bug };
  }
}

/** The compiler cannot see that the table's entry under `command.kind` takes this very command; its own type says so. */
const useCaseOf = <K extends CommandKind>(command: Command<K>): UseCase<K> => useCases[command.kind];
