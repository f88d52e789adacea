import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import { TLSSocket } from 'node:tls';
import type { FastifyServerFactoryHandler } from 'fastify';
import type { TlsMaterial } from '../ops/tls-files.ts';

/** Who must show a certificate that one of the client authorities signed. */
export type ClientCertificates = 'none' | 'agents' | 'all';

export type TlsOptions = Readonly<{
  material: TlsMaterial;
  clientCertificates: ClientCertificates;
  /** Whether a token that is bound to a machine is taken only from a client whose certificate names that machine. */
  nameMachines: boolean;
}>;

type Timeouts = Readonly<{ request_ms: number }>;

/** As Fastify sets it where it makes the server itself: longer than most balancers keep an idle connection. */
const keep_alive_ms = 72_000;
/** A handshake that takes longer is no client in a hurry, but somebody who holds connections open. */
const handshake_ms = 10_000;

/** The TLS side of the server: makes it, changes its certificate while it runs, and knows who showed which. */
export class TlsListener {
  readonly clientCertificates: ClientCertificates;
  readonly nameMachines: boolean;
  #material: TlsMaterial;
  #server: Server | undefined;
  #handshakeFailures = 0;

  constructor({ material, clientCertificates, nameMachines }: TlsOptions) {
    this.#material = material;
    this.clientCertificates = clientCertificates;
    this.nameMachines = nameMachines;
  }

  /** When the certificate in use ends: milliseconds since 1970. */
  get expiresAtMs(): number {
    return this.#material.expiresAtMs;
  }

  /** Connections that came to nothing before their first request. */
  get handshakeFailures(): number {
    return this.#handshakeFailures;
  }

  listen(handler: FastifyServerFactoryHandler, { request_ms }: Timeouts): Server {
    const server = createServer(
      {
        ...contextOf(this.#material),
        requestCert: this.clientCertificates !== 'none',
        // Where only agents need one, whether it is good is looked at once the token says that this is an agent.
        rejectUnauthorized: this.clientCertificates === 'all',
        handshakeTimeout: handshake_ms,
        keepAliveTimeout: keep_alive_ms,
        requestTimeout: request_ms,
      },
      handler,
    );
    server.on('tlsClientError', () => this.#handshakeFailures++);
    this.#server = server;
    return server;
  }

  /** For every handshake from now on; connections that are open stay as they are. */
  use(material: TlsMaterial): void {
    this.#server?.setSecureContext(contextOf(material));
    this.#material = material;
  }
}

const contextOf = ({ cert, key, ca }: TlsMaterial) => ({
  cert,
  key,
  ...(ca === undefined ? {} : { ca }),
  minVersion: 'TLSv1.2' as const,
});

/** Whether the client showed a certificate that one of the client authorities signed. */
export const showedCertificate = (request: IncomingMessage): boolean =>
  request.socket instanceof TLSSocket && request.socket.authorized;

/** What was asked of a connection's certificate before: parsing it again for every request would cost more than the rest. */
const names = new WeakMap<TLSSocket, Map<string, boolean>>();

/** Whether the certificate that the client showed names the machine: as a DNS name of its subject, or as its common name. */
export function certificateNames(request: IncomingMessage, machine: string): boolean {
  const { socket } = request;
  if (!(socket instanceof TLSSocket) || !socket.authorized) return false;
  const known = names.get(socket) ?? new Map<string, boolean>();
  names.set(socket, known);
  const before = known.get(machine);
  if (before !== undefined) return before;
  const isNamed = socket.getPeerX509Certificate()?.checkHost(machine, { wildcards: false }) !== undefined;
  known.set(machine, isNamed);
  return isNamed;
}
