import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';

/**
 * Files in PEM for a server that public authorities do not vouch for, or that asks clients for a certificate. They are
 * read again for new connections, so a renewed certificate needs no restart.
 */
export type TlsFiles = Readonly<{
  /** Authorities that may have signed the server's certificate, instead of the public ones. */
  caFile?: string | undefined;
  /** The client's own certificate and its key: both or none. */
  certFile?: string | undefined;
  keyFile?: string | undefined;
}>;

/** As much of fetch as is used here. */
export type Fetch = (url: string, init: FetchInit) => Promise<Response>;
type FetchInit = Readonly<{
  method?: string;
  headers: Record<string, string>;
  body?: string;
  redirect: 'error';
  cache?: 'no-store';
  signal: AbortSignal;
}>;

type Pem = Readonly<{ ca?: string; cert?: string; key?: string }>;

/** The files that the settings of a command name; undefined when they name none. */
export function tlsFilesOf(
  settings: Readonly<{
    ca_file?: string | undefined;
    cert_file?: string | undefined;
    key_file?: string | undefined;
  }>,
): TlsFiles | undefined {
  const { ca_file: caFile, cert_file: certFile, key_file: keyFile } = settings;
  return (caFile ?? certFile ?? keyFile) ? { caFile, certFile, keyFile } : undefined;
}

/** A fetch over connections that use the files. Throws a TypeError that names what is wrong with them. */
export function fetchWithTls(files: TlsFiles): Fetch {
  if ((files.certFile === undefined) !== (files.keyFile === undefined))
    throw new TypeError('a certificate and its key go together: name both files, or none');
  let pem = checked(readPem(files));
  // Loaded when it is needed: without files of its own a client gets along with what Node brings.
  const loading = import('undici').then(({ Agent, buildConnector, fetch: undiciFetch }) => {
    const connectorOf = (texts: Pem) => buildConnector({ ...texts, allowH2: false });
    let connect = connectorOf(pem);
    const dispatcher = new Agent({
      connect: (options, callback) => {
        const renewed = renewedPem(files, pem);
        if (renewed !== undefined) {
          pem = renewed;
          connect = connectorOf(pem);
        }
        connect(options, callback);
      },
    });
    return { dispatcher, undiciFetch };
  });
  // Whoever calls hears of it.
  loading.catch(() => {});
  return async (url, init) => {
    const { dispatcher, undiciFetch } = await loading;
    return undiciFetch(url, { ...init, dispatcher });
  };
}

function readPem({ caFile, certFile, keyFile }: TlsFiles): Pem {
  return {
    ...(caFile !== undefined && { ca: read(caFile) }),
    ...(certFile !== undefined && { cert: read(certFile) }),
    ...(keyFile !== undefined && { key: read(keyFile) }),
  };
}

/** What the files hold now; undefined when it is the same, or does not fit: a renewal may be halfway through. */
function renewedPem(files: TlsFiles, known: Pem): Pem | undefined {
  try {
    const pem = readPem(files);
    return digest(pem) === digest(known) ? undefined : checked(pem);
  } catch {
    return undefined;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new TypeError(`${file}: cannot be read (${reason})`, { cause });
  }
}

function checked(pem: Pem): Pem {
  try {
    createSecureContext(pem);
    return pem;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`the certificate files cannot be used (${reason})`, { cause });
  }
}

const digest = (pem: Pem): string => createHash('sha256').update(JSON.stringify(pem)).digest('hex');
