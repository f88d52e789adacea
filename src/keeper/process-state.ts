import { readFileSync } from 'node:fs';

/** What the kernel says of a process of this PID namespace: its state, and when it began (no other has both pid and that). */
export function processState(pid: number): Readonly<{ letter: string; startedAt: string }> | undefined {
  try {
    // Behind the name in brackets, which may have any character in it.
    const [letter = '', ...rest] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
    return { letter, startedAt: rest[18] ?? '' };
  } catch {
    return undefined;
  }
}
