import { describe, expect, test } from 'vitest';
import { playTcp, sumOf } from '../support/tcp/story.ts';

describe('fish follows TCP as a naive NAT does that keeps every segment, and as is true of the two ends', () => {
  test('through loss, repetition, delay and overtaking, power cuts, restarts and forgeries', () => {
    const happened = sumOf(Array.from({ length: 150 }, (_, seed) => playTcp(seed)));
    // Else it has not shown what it should.
    const often = ['lost', 'repeated', 'overtaken', 'finished', 'reset', 'idle', 'forgedSyns', 'forgedResets'] as const;
    for (const what of often) expect(happened[what], what).toBeGreaterThan(80);
    const sometimes = ['doubted', 'simultaneous', 'begunAnew', 'superseded', 'portsUsedAgain', 'withoutPort'] as const;
    for (const what of [...sometimes, 'adoptions', 'wrapped'] as const)
      expect(happened[what], what).toBeGreaterThan(15);
  });
});
