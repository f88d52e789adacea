import { isIP } from 'node:net';
import { z } from 'zod';

/** How a server is reached over a network: with TLS, unless somebody says that it shall be without. */
export const tlsSettings = {
  tls_cert_file: z.string().optional().meta({
    description: 'PEM file with the certificate of this server and its chain; with it, the server speaks TLS only',
  }),
  tls_key_file: z.string().optional().meta({ description: 'PEM file with the key of tls_cert_file' }),
  tls_client_ca_file: z.string().optional().meta({
    description: 'PEM file with the authorities that sign certificates of clients; with it, clients must show one',
  }),
  tls_client_certificates: z.enum(['agents', 'all']).default('all').meta({
    description: 'Which clients must show a certificate, where tls_client_ca_file is set',
  }),
  tls_name_machines: z.boolean().default(false).meta({
    description: 'Take tokens bound to a machine only from clients whose certificate names that machine',
  }),
  allow_plain_http: z.boolean().default(false).meta({
    description: 'Listen beyond this host without TLS: tokens then cross the network in clear',
  }),
};

type TlsSettings = Readonly<{
  host: string;
  tls_cert_file?: string | undefined;
  tls_key_file?: string | undefined;
  tls_client_ca_file?: string | undefined;
  tls_name_machines: boolean;
  allow_plain_http: boolean;
}>;

/** What the settings must be together. */
export function refineTls(settings: TlsSettings, context: z.core.$RefinementCtx): void {
  const { tls_cert_file: cert, tls_key_file: key, tls_client_ca_file: ca } = settings;
  const complain = (name: keyof TlsSettings, message: string) =>
    context.addIssue({ code: 'custom', path: [name], message, input: settings[name] });
  if (cert !== undefined && key === undefined) complain('tls_key_file', 'a certificate needs its key');
  if (key !== undefined && cert === undefined) complain('tls_cert_file', 'a key needs its certificate');
  if (ca !== undefined && cert === undefined) complain('tls_client_ca_file', 'only with tls_cert_file');
  if (settings.tls_name_machines && ca === undefined) complain('tls_name_machines', 'only with tls_client_ca_file');
  if (cert === undefined && !isLoopback(settings.host) && !settings.allow_plain_http)
    complain(
      'host',
      'others can reach this address, and without TLS they can read tokens on the way: set tls_cert_file and ' +
        'tls_key_file, or allow_plain_http where something in front speaks TLS',
    );
}

/** Whether only this host can reach the address. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
