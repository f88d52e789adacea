import { setTimeout } from 'node:timers/promises';
import type { FlowAnswer } from '../../fish/log/flow-log.ts';

/** As long as a question may be kept waiting: whoever asks about later than that asks about the future. */
const wait_ms_max = 250;

/**
 * Asks the flow log about the instant `at` (µs), and where that is so recent that its clock cannot be sure of it yet, once
 * more when it can: most questions are about this very moment, and would all be answered with `not_covered`.
 */
export async function askOnceCovered(
  ask: () => Promise<FlowAnswer>,
  at: number,
  pause: (ms: number) => Promise<unknown> = setTimeout,
): Promise<FlowAnswer> {
  const answer = await ask();
  if (answer.verdict !== 'not_covered') return answer;
  const missing_ms = (at + answer.marginUs - answer.coversThrough) / 1_000;
  if (missing_ms <= 0 || missing_ms > wait_ms_max) return answer;
  await pause(Math.ceil(missing_ms) + 1);
  return ask();
}
