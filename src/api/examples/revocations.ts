import type { z } from 'zod';
import type { Revocation, RevocationCreate } from '../../wire/revocations.ts';

/** An operator takes every lease of a proxy back, with two minutes' notice. */

export const revocationCreate: z.input<typeof RevocationCreate> = {
  machine: 'edge-1',
  holder: 'haproxy',
  deadline_s: 120,
  reason: 'the service moves',
};
export const revocation: Revocation = {
  id: 'revocation-64',
  machine: 'edge-1',
  holder: 'haproxy',
  pools: null,
  prefix: null,
  session: null,
  slice: null,
  lease: null,
  ending: 'revoked',
  reason: 'the service moves',
  forced: false,
  state: 'waiting',
  created_at: '2026-01-31T14:06:00.000000Z',
  revoke_at: '2026-01-31T14:08:00.000000Z',
  ended_at: null,
  done_at: null,
  leases_ended: 0,
  machine_leases_left: 0,
  revision: 64,
};
export const doneRevocation: Revocation = {
  ...revocation,
  state: 'done',
  ended_at: '2026-01-31T14:08:00.000000Z',
  done_at: '2026-01-31T14:08:00.250000Z',
  leases_ended: 12,
  machine_leases_left: 0,
  revision: 71,
};
