import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { reasonOf } from './config-file.ts';

/** Where the server's certificate is, and those of who may sign certificates of clients. All in PEM. */
export type TlsPaths = Readonly<{ certFile: string; keyFile: string; clientCaFile?: string | undefined }>;

/** What a TLS server needs, read and found to fit together. */
export type TlsMaterial = Readonly<{
  cert: string;
  key: string;
  ca: string | undefined;
  /** When the first certificate of the file, the server's own, ends: milliseconds since 1970. */
  expiresAtMs: number;
}>;
export type TlsMaterialRead = Readonly<{ ok: true; value: TlsMaterial } | { ok: false; problem: string }>;

/** Larger than any chain or bundle; a bigger file was named by mistake. */
const pem_bytes_max = 1_048_576;

/** The problem is one line that names the file and never quotes it. */
export function readTlsMaterial(paths: TlsPaths, nowMs: number): TlsMaterialRead {
  const problem = (text: string): TlsMaterialRead => ({ ok: false, problem: text });
  const texts = new Map<string, string>();
  for (const file of [paths.certFile, paths.keyFile, paths.clientCaFile].filter((name) => name !== undefined)) {
    try {
      if (statSync(file).size > pem_bytes_max) return problem(`${file}: is larger than any certificate`);
      texts.set(file, readFileSync(file, 'utf8'));
    } catch (cause) {
      return problem(`${file}: cannot be read (${reasonOf(cause)})`);
    }
  }
  const [cert = '', key = ''] = [texts.get(paths.certFile), texts.get(paths.keyFile)];
  const ca = paths.clientCaFile === undefined ? undefined : texts.get(paths.clientCaFile);
  const own = certificateIn(cert);
  if (own === undefined) return problem(`${paths.certFile}: holds no certificate in PEM`);
  if (ca !== undefined && certificateIn(ca) === undefined)
    return problem(`${paths.clientCaFile}: holds no certificate in PEM`);
  const expiresAtMs = Date.parse(own.validTo);
  if (expiresAtMs <= nowMs) return problem(`${paths.certFile}: the certificate ended at ${own.validTo}`);
  try {
    createSecureContext({ cert, key, ca });
  } catch (cause) {
    const isOther = cause instanceof Error && 'code' in cause && cause.code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH';
    return problem(
      isOther
        ? `${paths.keyFile}: is not the key of the certificate in ${paths.certFile}`
        : `${paths.keyFile}: is no key that can be used (${cause instanceof Error ? cause.message : String(cause)})`,
    );
  }
  return { ok: true, value: { cert, key, ca, expiresAtMs } };
}

/** The first certificate of a PEM text. */
function certificateIn(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

export const sameMaterial = (a: TlsMaterial, b: TlsMaterial): boolean =>
  a.cert === b.cert && a.key === b.key && a.ca === b.ca;
