import { z } from 'zod';

/** Spread into the settings of a command that speaks to a server: how it knows the server, and proves itself. */
export const certificateSettings = {
  ca_file: z.string().optional().meta({
    description:
      'PEM file with the authorities that may have signed the certificate of the server; default: the public ones',
  }),
  cert_file: z.string().optional().meta({
    description: 'PEM file with a certificate for this client, where the server asks for one',
  }),
  key_file: z.string().optional().meta({ description: 'PEM file with the key of cert_file' }),
};

export type CertificateSettings = Readonly<{
  ca_file?: string | undefined;
  cert_file?: string | undefined;
  key_file?: string | undefined;
}>;
