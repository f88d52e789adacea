import { err, type Result } from '../net/result.ts';
import type { Command, CommandKind, Output } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { answerKey, type KeptAnswer, type Lease } from './model.ts';
import type { Needs } from './needs.ts';
import type { IdempotencyKey } from './provenance.ts';
import { asAnswered, replaceLeases, type Replay } from './replays.ts';
import type { Context, UseCase } from './use-case.ts';

/**
 * A command's answer. `replayed`: an earlier one under the same key, given again; nothing was decided, nothing changed.
 */
export type Answer<K extends CommandKind> = Result<Output<K>, LeaseError> & Readonly<{ replayed?: true }>;

/** What a keyed command must have loaded: in the round in which its own needs begin, the answer that may be kept already. */
export function* keyedNeeds<K extends CommandKind>(
  useCase: UseCase<K>,
  command: Command<K>,
  key: IdempotencyKey,
  context: Context,
): Needs {
  const own = useCase.needs(command, context);
  let step = own.next();
  yield [{ need: 'keptAnswer', token: key.token, key: key.key }, ...(step.done === true ? [] : step.value)];
  const kept = keptUnder(key, context);
  // Also where the request goes on: another in the batch may do so first, and then it was repeated.
  if (kept && kept.fingerprint === key.fingerprint) yield* replayOf(useCase).needs(kept.answer, context.view);
  if (kept && isRepetition(kept, key)) return;
  while (step.done !== true) {
    step = own.next();
    if (step.done !== true) yield step.value;
  }
}

/**
 * Decides, and keeps the answer beside what was decided, in the same transaction: both are durable, or neither. What is
 * refused changed nothing, so nothing is kept of it either: the same request may be tried again under the same key.
 */
export function decideKeyed<K extends CommandKind>(
  useCase: UseCase<K>,
  command: Command<K>,
  key: IdempotencyKey,
  context: Context,
): Answer<K> {
  const kept = keptUnder(key, context);
  const replay = replayOf(useCase);
  if (kept && isRepetition(kept, key)) {
    if (kept.fingerprint !== key.fingerprint)
      return err({ code: 'idempotency_key_reused', key: key.key, usedAt: kept.at });
    return { ...replay.answer(kept.answer, context), replayed: true };
  }
  const result = useCase.decide(command, context);
  if (result.ok) {
    const { token, key: name, fingerprint } = key;
    const answer = kept ? replaced(kept, key, result.value) : replay.keep(result.value);
    context.view.keptAnswers.put({ token, key: name, fingerprint, answer, at: kept?.at ?? context.now });
  }
  return result;
}

const keptUnder = ({ token, key }: IdempotencyKey, { view }: Context): KeptAnswer | undefined =>
  view.keptAnswers.get(answerKey(token, key));

/** Whether the request has come again; otherwise it goes on. */
const isRepetition = (kept: KeptAnswer, { fingerprint, replaces }: IdempotencyKey): boolean =>
  kept.fingerprint !== fingerprint || replaces === undefined || replaceLeases(kept.answer, replaces, []) === undefined;

function replaced(kept: KeptAnswer, { replaces = [] }: IdempotencyKey, output: unknown): string {
  // Only grants go on, and what they come to are leases.
  const answer = replaceLeases(kept.answer, replaces, output as readonly Lease[]);
  if (answer === undefined) throw new Error(`the answer kept under ${kept.key} is not the one that was looked at`);
  return answer;
}

const replayOf = <K extends CommandKind>(useCase: UseCase<K>): Replay<Output<K>> =>
  // What is kept as it was answered is an output of this very use case.
  useCase.replay ?? (asAnswered as Replay<Output<K>>);
