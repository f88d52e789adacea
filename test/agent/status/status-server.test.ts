import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeLeftSocket, socketName } from '../../../src/agent/status/status-server.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fishery-status-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function listenAt(path: string): Promise<() => Promise<void>> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(path, listening));
  return () => new Promise((closed) => server.close(() => closed()));
}

describe('the socket of an agent that is gone', () => {
  it('is removed', async () => {
    const close = await listenAt(join(folder, 'before'));
    // Whoever closes it takes away what it was called then.
    renameSync(join(folder, 'before'), join(folder, socketName));
    await close();
    expect(existsSync(join(folder, socketName))).toBe(true);
    await removeLeftSocket(folder);
    expect(existsSync(join(folder, socketName))).toBe(false);
  });

  it('stays while somebody answers on it', async () => {
    const close = await listenAt(join(folder, socketName));
    await removeLeftSocket(folder);
    expect(existsSync(join(folder, socketName))).toBe(true);
    await close();
  });

  it('may not be there', async () => {
    await removeLeftSocket(folder);
    await removeLeftSocket(join(folder, 'nowhere'));
  });
});
