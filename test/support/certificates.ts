import { webcrypto } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import './reflect-metadata.ts';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto);

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const day_ms = 86_400_000;

/** Paths of files in PEM. */
export type CertificateFiles = Readonly<{ cert: string; key: string }>;
type Names = readonly Readonly<{ type: 'dns' | 'ip'; value: string }>[];
type Terms = Readonly<{ names?: Names; from_ms?: number; until_ms?: number; usage?: 'server' | 'client' }>;

const newKeys = () => webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
let serial = 0;
const nextSerial = (): string => (++serial).toString(16).padStart(16, '0');

async function pemOf(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');
}

/** A certificate authority of a test, and the files it makes, in a folder of their own. */
export class Authority implements Disposable {
  readonly folder: string;
  /** Its own certificate: what clients or servers trust. */
  readonly file: string;
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #certificate: x509.X509Certificate;

  private constructor(folder: string, keys: webcrypto.CryptoKeyPair, certificate: x509.X509Certificate) {
    this.folder = folder;
    this.file = join(folder, 'ca.pem');
    this.#keys = keys;
    this.#certificate = certificate;
    writeFileSync(this.file, certificate.toString('pem'));
  }

  static async make(name = 'tests'): Promise<Authority> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: nextSerial(),
      name: `CN=${name}`,
      notBefore: new Date(Date.now() - day_ms),
      notAfter: new Date(Date.now() + 30 * day_ms),
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 1, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      ],
    });
    return new Authority(mkdtempSync(join(tmpdir(), 'fishery-ca-')), keys, certificate);
  }

  /** Writes a certificate and its key to `${name}.pem` and `${name}.key`, over what was there. */
  async issue(name: string, terms: Terms = {}): Promise<CertificateFiles> {
    const { names = [], from_ms = Date.now() - day_ms, until_ms = Date.now() + day_ms, usage = 'client' } = terms;
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: nextSerial(),
      subject: `CN=${name}`,
      issuer: this.#certificate.subject,
      notBefore: new Date(from_ms),
      notAfter: new Date(until_ms),
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      extensions: [
        new x509.ExtendedKeyUsageExtension([
          usage === 'server' ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
        ]),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension([...names])] : []),
      ],
    });
    const files = { cert: join(this.folder, `${name}.pem`), key: join(this.folder, `${name}.key`) };
    writeFileSync(files.cert, certificate.toString('pem'));
    writeFileSync(files.key, await pemOf(keys.privateKey), { mode: 0o600 });
    return files;
  }

  /** For a server on the loopback. */
  issueServer(name = 'server', terms: Terms = {}): Promise<CertificateFiles> {
    const names: Names = [
      { type: 'dns', value: 'localhost' },
      { type: 'ip', value: '127.0.0.1' },
    ];
    return this.issue(name, { names, usage: 'server', ...terms });
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
