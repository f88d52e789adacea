import { z } from 'zod';

/** What the server says about itself, outside of /v1. */
export const About = z
  .strictObject({
    name: z.literal('fishery'),
    version: z.string(),
    protocol_version: z.int().meta({ description: 'Of the protocol between server, agents and clients.' }),
    docs: z.string(),
    openapi: z.string(),
  })
  .meta({ id: 'About' });

export const Health = z.strictObject({ status: z.literal('ok') }).meta({ id: 'Health' });

export const Readiness = z
  .strictObject({
    status: z.enum(['ready', 'read_only']).meta({
      description: 'read_only: it answers keepalives and reads, but grants nothing until `reason` is mended.',
    }),
    reason: z.string().nullable(),
    revision: z.int().meta({ description: 'The newest revision of the log.' }),
  })
  .meta({ id: 'Readiness' });

export type About = z.infer<typeof About>;
export type Health = z.infer<typeof Health>;
export type Readiness = z.infer<typeof Readiness>;
