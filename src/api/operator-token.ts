import { chmod, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { formatSecret, hashSecret, isWellFormedSecret, secretBytes } from './bearer.ts';
import { isLiveToken } from '../leases/tokens.ts';
import type { Parts } from './parts.ts';

type Needed = Pick<Parts, 'leases' | 'reader' | 'randomBytes' | 'clock'>;

export type OperatorToken =
  /** Written just now, or registered from a file that somebody put there. */
  | Readonly<{ outcome: 'written' | 'adopted'; file: string }>
  /** There is an operator already; whether the file still exists is their business. */
  | Readonly<{ outcome: 'exists'; file: string; fileExists: boolean }>;

/**
 * Makes sure that somebody can get in: when no operator token is live, one is made and its secret written to `file`, for
 * its owner alone. A secret that is in the file already is registered instead, so that a crash between the two steps is
 * mended by the next start, and a secret can be brought along.
 */
export async function ensureOperatorToken(parts: Needed, file: string): Promise<OperatorToken> {
  const present = await readSecret(file);
  if (await hasOperator(parts)) return { outcome: 'exists', file, fileExists: present !== undefined };

  const adoptable = present !== undefined && (await parts.reader.accessToken(hashSecret(present))) === undefined;
  const secret = adoptable ? present : formatSecret(parts.randomBytes(secretBytes));
  // The file comes first: a token that nobody knows the secret of would keep the next start from making another.
  if (adoptable) await chmod(file, 0o600);
  else await writePrivately(file, `${secret}\n`);
  const made = await parts.leases.execute({
    kind: 'createToken',
    name: 'operator',
    role: 'operator',
    machine: null,
    holder: null,
    hash: hashSecret(secret),
  });
  if (!made.ok) throw new Error(`the operator token was refused: ${made.error.code}`);
  return { outcome: adoptable ? 'adopted' : 'written', file };
}

async function hasOperator({ reader, clock }: Needed): Promise<boolean> {
  for (let cursor: string | null = null; ;) {
    const { items, next } = await reader.accessTokens({ role: 'operator' }, { limit: 1_000, cursor });
    if (items.some((token) => isLiveToken(token, clock.nowUs()))) return true;
    if (next === null) return false;
    cursor = next;
  }
}

/** A file that is larger was put there by mistake. */
const secret_bytes_max = 4_096;

async function readSecret(file: string): Promise<string | undefined> {
  try {
    if ((await stat(file)).size > secret_bytes_max) return undefined;
    const text = (await readFile(file, 'utf8')).trim();
    return isWellFormedSecret(text) ? text : undefined;
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw cause;
  }
}

/** Never readable by others, not for a moment, and whole or not at all. */
async function writePrivately(file: string, text: string): Promise<void> {
  const draft = `${file}.new`;
  await rm(draft, { force: true });
  const handle = await open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(draft, file);
}
