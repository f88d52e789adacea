import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTlsMaterial, type TlsMaterial } from '../../src/ops/tls-files.ts';
import { TlsReloader } from '../../src/ops/tls-reloader.ts';
import { Authority, type CertificateFiles } from '../support/certificates.ts';

let ca: Authority;
let files: CertificateFiles;
beforeAll(async () => {
  ca = await Authority.make();
  files = await ca.issueServer('good');
});
afterAll(() => ca[Symbol.dispose]());

const paths = (over: Partial<CertificateFiles> = {}) => ({
  certFile: over.cert ?? files.cert,
  keyFile: over.key ?? files.key,
});

describe('the files of a TLS server', () => {
  it('are taken when they fit together', () => {
    const read = readTlsMaterial({ ...paths(), clientCaFile: ca.file }, Date.now());
    expect(read.ok).toBe(true);
    if (read.ok) expect(read.value.expiresAtMs).toBeGreaterThan(Date.now());
  });

  it.each([
    ['a file that is missing', async () => paths({ cert: join(ca.folder, 'none.pem') }), /none\.pem: .*no such file/],
    ['a key as certificate', async () => paths({ cert: files.key }), /good\.key: holds no certificate/],
    ["another certificate's key", async () => paths({ key: (await ca.issue('x')).key }), /is not the key of the certi/],
    ['a key that is none', async () => paths({ key: files.cert }), /good\.pem: is no key that can be used/],
    [
      'a certificate that has ended',
      async () => {
        const ended = await ca.issueServer('ended', { until_ms: Date.now() - 1_000 });
        return { certFile: ended.cert, keyFile: ended.key };
      },
      /ended\.pem: the certificate ended at/,
    ],
    ['authorities that are none', async () => ({ ...paths(), clientCaFile: files.key }), /good\.key: holds no cert/],
  ])('are refused in one line: %s', async (_what, given, problem) => {
    const read = readTlsMaterial(await given(), Date.now());
    expect(read.ok ? '' : read.problem).toMatch(problem);
    expect(read.ok ? '' : read.problem).not.toMatch(/PRIVATE KEY|\n/);
  });
});

describe('a certificate that is renewed', () => {
  async function world() {
    const now = { cert: join(ca.folder, 'now.pem'), key: join(ca.folder, 'now.key') };
    const put = (from: Partial<CertificateFiles>) => {
      if (from.cert !== undefined) copyFileSync(from.cert, now.cert);
      if (from.key !== undefined) copyFileSync(from.key, now.key);
    };
    put(files);
    const read = readTlsMaterial({ certFile: now.cert, keyFile: now.key }, Date.now());
    if (!read.ok) throw new Error(read.problem);
    const applied: TlsMaterial[] = [];
    const problems: string[] = [];
    const reloader = new TlsReloader({
      paths: { certFile: now.cert, keyFile: now.key },
      material: read.value,
      apply: (material) => applied.push(material),
      onReload: () => {},
      onProblem: (problem) => problems.push(problem),
    });
    return { now, put, reloader, applied, problems, next: await ca.issueServer('next') };
  }

  it('is taken in once both files are there, and not before', async () => {
    const { put, reloader, applied, problems, next } = await world();
    reloader.look();
    put({ cert: next.cert });
    reloader.look();
    reloader.look();
    expect([applied.length, problems]).toEqual([0, [expect.stringContaining('is not the key of the certificate')]]);
    put({ key: next.key });
    reloader.look();
    reloader.look();
    expect([applied.length, problems.length]).toEqual([1, 1]);
  });

  it('that is broken leaves the one in use, and is told of again when it breaks again', async () => {
    const { now, put, reloader, applied, problems } = await world();
    for (let round = 0; round < 2; round++) {
      writeFileSync(now.cert, 'half a certi');
      reloader.look();
      put(files);
      reloader.look();
    }
    expect([applied.length, problems.length]).toEqual([0, 2]);
  });
});
