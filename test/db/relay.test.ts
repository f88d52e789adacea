import { describe, expect, it } from 'vitest';
import { Assembly, piecesOf } from '../../src/db/postgres/relay.ts';

const texts = ['', 'short', 'ünïcode 😀', 'x'.repeat(6_999), 'é'.repeat(40_000)];

describe('a text on its way between servers', () => {
  it('goes in pieces that a notification takes, and is whole again at the end', () => {
    for (const text of texts) {
      const pieces = piecesOf('a', text);
      expect(pieces.every((piece) => Buffer.byteLength(piece) < 7_999)).toBe(true);
      const assembly = new Assembly();
      expect(pieces.map((piece) => assembly.take(piece))).toEqual([...pieces.slice(1).map(() => undefined), text]);
    }
  });

  it('is not mixed with others, and not made of what is left of one', () => {
    const [long = [], other = []] = ['é'.repeat(20_000), 'ö'.repeat(20_000)].map((text, n) =>
      piecesOf(String(n), text),
    );
    const assembly = new Assembly();
    const mixed = long.flatMap((piece, index) => [piece, other[index] ?? '']);
    expect(mixed.map((piece) => assembly.take(piece)).filter((text) => text !== undefined)).toEqual([
      'é'.repeat(20_000),
      'ö'.repeat(20_000),
    ]);
    for (const piece of [...long.slice(0, 1), ...long.slice(2), 'nonsense', ''])
      expect(assembly.take(piece)).toBeUndefined();
  });

  it('is given up when too many others begin before it ends', () => {
    const assembly = new Assembly();
    const [first = '', ...rest] = piecesOf('first', 'é'.repeat(20_000));
    assembly.take(first);
    for (let n = 0; n < 64; n++) assembly.take(piecesOf(`n${n}`, 'é'.repeat(20_000))[0] ?? '');
    expect(rest.map((piece) => assembly.take(piece)).every((text) => text === undefined)).toBe(true);
  });
});
