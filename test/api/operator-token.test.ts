import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatSecret, hashSecret, isWellFormedSecret } from '../../src/api/bearer.ts';
import { ensureOperatorToken } from '../../src/api/operator-token.ts';
import { LeaseService } from '../../src/leases/lease-service.ts';
import { SteadyClock } from '../../src/ops/clock.ts';
import { MemoryStore } from '../support/memory-store.ts';

let directory: string;
let file: string;
let store: MemoryStore;
let leases: LeaseService;
const clock = new SteadyClock();
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fishery-token-'));
  file = join(directory, 'operator.token');
  store = new MemoryStore();
  leases = new LeaseService({ store, clock });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const ensure = () => ensureOperatorToken({ leases, reader: store.reader, randomBytes, clock }, file);
const secretIn = () => readFileSync(file, 'utf8').trim();
const modeOf = () => (statSync(file).mode & 0o777).toString(8);
const tokens = async () => (await store.reader.accessTokens({}, { limit: 100, cursor: null })).items;
const revokeAll = async () => {
  for (const { id } of await tokens()) await leases.execute({ kind: 'revokeToken', id });
};

describe('the first start', () => {
  it('writes a token for the operator that nobody else can read', async () => {
    expect(await ensure()).toEqual({ outcome: 'written', file });
    expect(modeOf()).toBe('600');
    expect(isWellFormedSecret(secretIn())).toBe(true);
    expect(await tokens()).toMatchObject([{ role: 'operator', hash: hashSecret(secretIn()), revokedAt: null }]);
    expect(existsSync(`${file}.new`)).toBe(false);
  });

  it('is the only one that does', async () => {
    await ensure();
    const secret = secretIn();
    expect(await ensure()).toEqual({ outcome: 'exists', file, fileExists: true });
    expect([secretIn(), (await tokens()).length]).toEqual([secret, 1]);
  });

  it('registers a secret that somebody brought along, and closes its file to others', async () => {
    const secret = formatSecret(randomBytes(32));
    writeFileSync(file, `${secret}\n`);
    chmodSync(file, 0o644);
    expect(await ensure()).toEqual({ outcome: 'adopted', file });
    expect([secretIn(), modeOf()]).toEqual([secret, '600']);
    expect(await tokens()).toMatchObject([{ hash: hashSecret(secret) }]);
  });

  it('that broke off after the file was written is completed by the next', async () => {
    // What a crash between the two steps leaves behind: the file, and no token.
    await ensure();
    const secret = secretIn();
    store = new MemoryStore();
    leases = new LeaseService({ store, clock: new SteadyClock() });
    expect((await ensure()).outcome).toBe('adopted');
    expect(secretIn()).toBe(secret);
  });

  it('replaces a file that holds no token', async () => {
    writeFileSync(file, 'to be filled in');
    expect((await ensure()).outcome).toBe('written');
    expect(isWellFormedSecret(secretIn())).toBe(true);
  });

  it('says what is wrong with a file that cannot be written', async () => {
    file = join(directory, 'missing', 'operator.token');
    await expect(ensure()).rejects.toThrow('ENOENT');
    expect(await tokens()).toEqual([]);
  });
});

describe('a later start', () => {
  it('leaves the file away when the operator took it away', async () => {
    await ensure();
    rmSync(file);
    expect(await ensure()).toEqual({ outcome: 'exists', file, fileExists: false });
    expect(existsSync(file)).toBe(false);
  });

  it('makes a new token when all were revoked, and never brings a revoked one back', async () => {
    await ensure();
    const revoked = secretIn();
    await revokeAll();
    expect((await ensure()).outcome).toBe('written');
    expect(secretIn()).not.toBe(revoked);
    const live = (await tokens()).filter((token) => token.revokedAt === null);
    expect(live.map(({ hash }) => hash)).toEqual([hashSecret(secretIn())]);
  });

  it('is content with any operator token, whatever its name', async () => {
    const hash = hashSecret(formatSecret(randomBytes(32)));
    const terms = { role: 'operator', machine: null, holder: null } as const;
    await leases.execute({ kind: 'createToken', name: 'alice', ...terms, hash });
    expect(await ensure()).toEqual({ outcome: 'exists', file, fileExists: false });
  });
});
