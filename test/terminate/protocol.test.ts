import { describe, expect, it } from 'vitest';
import { Lines } from '../../src/terminate/protocol.ts';

describe('lines', () => {
  it('are whole, however they arrive', () => {
    const lines = new Lines();
    expect(['{"a"', ':1}\n{"b":2}\n{', '}', '\n'].map((piece) => lines.take(piece))).toEqual([
      [],
      ['{"a":1}', '{"b":2}'],
      [],
      ['{}'],
    ]);
  });

  it('have an end', () => {
    const lines = new Lines();
    const mebibyte = 'x'.repeat(1_024 * 1_024);
    expect(() => {
      for (let i = 0; i < 17; i++) lines.take(mebibyte);
    }).toThrow('a message of more than 16777216 characters');
  });
});
