import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { SecretFile } from '../../src/ops/secret-file.ts';

it('a secret that is replaced is used soon, and one that is just being written does not take the old one away', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fishery-secret-'));
  try {
    const file = join(folder, 'token');
    writeFileSync(file, 'old\n');
    let nowMs = 0;
    const secret = new SecretFile(file, 'old', () => nowMs);
    writeFileSync(file, '');
    nowMs = 1_000;
    expect(secret.read()).toBe('old');
    writeFileSync(file, 'new\n');
    nowMs = 1_999;
    expect(secret.read()).toBe('old');
    nowMs = 2_000;
    expect(secret.read()).toBe('new');
    rmSync(file);
    nowMs = 9_000;
    expect(secret.read()).toBe('new');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
