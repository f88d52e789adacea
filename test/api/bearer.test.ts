import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { bearerOf, formatSecret, hashesEqual, hashSecret, isWellFormedSecret } from '../../src/api/bearer.ts';

const secret = formatSecret(Uint8Array.from({ length: 32 }, (_, i) => i * 7));

describe('a secret', () => {
  it('is the prefix, 32 bytes and a checksum, in characters that need no quoting', () => {
    expect(secret).toMatch(/^fsh_[A-Za-z0-9_-]{49}$/);
    expect(isWellFormedSecret(secret)).toBe(true);
  });

  it('differs with every byte', () => {
    const all = Array.from({ length: 32 }, (_, i) =>
      formatSecret(Uint8Array.from({ length: 32 }, (_, j) => +(i === j))),
    );
    expect(new Set(all).size).toBe(32);
  });

  it('is made of 32 bytes and no others', () => {
    expect(() => formatSecret(new Uint8Array(31))).toThrow('32 bytes');
  });

  it('is not well-formed with any one character changed, missing or added', () => {
    for (let i = 0; i < secret.length; i++) {
      const changed = secret.slice(0, i) + (secret[i] === 'x' ? 'y' : 'x') + secret.slice(i + 1);
      expect(isWellFormedSecret(changed), changed).toBe(false);
    }
    for (const wrong of [
      '',
      'fsh_',
      secret.slice(0, -1),
      `${secret}A`,
      ` ${secret}`,
      `${secret}\n`,
      secret.toUpperCase(),
    ])
      expect(isWellFormedSecret(wrong), JSON.stringify(wrong)).toBe(false);
  });

  it('is stored as its SHA-256', () => {
    expect(hashSecret(secret)).toBe(createHash('sha256').update(secret).digest('hex'));
    expect(hashesEqual(hashSecret(secret), hashSecret(secret))).toBe(true);
    expect(hashesEqual(hashSecret(secret), hashSecret(`${secret}x`))).toBe(false);
    expect(hashesEqual(hashSecret(secret), '')).toBe(false);
  });
});

describe('an Authorization header', () => {
  it.each([
    ['Bearer abc', 'abc'],
    ['bearer abc', 'abc'],
    ['BEARER   abc  ', 'abc'],
    ['Bearer', undefined],
    ['Bearer ', undefined],
    ['Basic abc', undefined],
    ['Bearer a b', undefined],
    ['xBearer abc', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('%s', (header, expected) => {
    expect(bearerOf(header)).toBe(expected);
  });
});
