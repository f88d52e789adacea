import { createHash, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * The text of a bearer token: `fsh_`, 32 random bytes, and a checksum of them. The prefix lets secret scanners find a
 * leaked one; the checksum tells a mistyped token from a revoked one without asking the database.
 */
const prefix = 'fsh_';
export const secretBytes = 32;
const shape = /^fsh_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})$/;

const checksum = (body: string): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc32(body));
  return bytes.toString('base64url');
};

/** `random`: 32 bytes from a cryptographic source. */
export function formatSecret(random: Uint8Array): string {
  if (random.length !== secretBytes) throw new Error(`a token is made of ${secretBytes} bytes, not ${random.length}`);
  const body = Buffer.from(random).toString('base64url');
  return `${prefix}${body}${checksum(body)}`;
}

export function isWellFormedSecret(text: string): boolean {
  const [, body, sum] = shape.exec(text) ?? [];
  return body !== undefined && sum === checksum(body);
}

/**
 * What is stored. A plain SHA-256 is enough: the secret has 256 random bits, so there is nothing to guess and no need for
 * a slow hash.
 */
export const hashSecret = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** In constant time, so that the comparison says nothing about how much of a hash was right. */
export const hashesEqual = (a: string, b: string): boolean =>
  a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

/** The credentials of an Authorization header, or why there are none. The scheme's name is case-insensitive (RFC 9110). */
export function bearerOf(header: string | undefined): string | undefined {
  return /^Bearer +([^\s]+) *$/i.exec(header ?? '')?.[1];
}
