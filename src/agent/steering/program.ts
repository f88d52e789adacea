import { createHash } from 'node:crypto';
import { steerProgram } from './steer-program.ts';

/** What the program is told by constants in its instructions. Mark and mask as in the settings. */
export type SteeringTarget = Readonly<{ tunIndex: number; mark: number; markMask: number }>;

/** Constants of bpf/steer.bpf.c, which may stand in the instructions more than once. */
const placeholders = { tunIndex: 0x7f15f001, markMask: 0x7f15f002, mark: 0x7f15f003 } as const;

const instructionBytes = 8;
/** An instruction's constant is its last four bytes. */
const constantAt = 4;

export type Program = Readonly<{
  instructions: Uint8Array;
  /**
   * Tells this program from every other version of it and from the same one with other constants; short enough to be the
   * program's name in the kernel.
   */
  label: string;
}>;

/** The bare instructions for one TUN device and one mark. */
export function steeringProgram(target: SteeringTarget): Program {
  const instructions = new Uint8Array(Buffer.from(steerProgram.join(''), 'hex'));
  const view = new DataView(instructions.buffer);
  for (const name of ['tunIndex', 'markMask', 'mark'] as const) {
    let found = 0;
    for (let at = constantAt; at < instructions.length; at += instructionBytes) {
      if (view.getUint32(at, true) !== placeholders[name]) continue;
      view.setUint32(at, target[name], true);
      found++;
    }
    if (found === 0) throw new Error(`the steering program has no place for ${name}`);
  }
  const digest = createHash('sha256').update(instructions).digest('hex').slice(0, 8);
  return { instructions, label: labelOf(digest) };
}

const labelPrefix = 'fishery';

/** A label without what all of them begin with, and back. */
export const shortLabel = (label: string): string => label.slice(labelPrefix.length);
export const labelOf = (short: string): string => `${labelPrefix}${short}`;
