import type { z } from 'zod';
import type { ForwardedAnswer, GrantedAnswer, GrantedReport, ReportedSession } from '../../wire/broker.ts';

const at = {
  opened: '2026-01-31T14:02:00.000000Z',
  granted: '2026-01-31T14:02:30.000000Z',
  active: '2026-01-31T14:02:30.000412Z',
  told: '2026-01-31T14:02:31.000000Z',
} as const;

const epoch = '0b6a8a9e-1f0e-4a53-b7b4-6f1d7f4b2c11';

const session: ReportedSession = {
  id: 'session-1841',
  holder: 'squid',
  state: 'live',
  ending: null,
  ttl_s: 30,
  expires_at: '2026-01-31T14:02:30.000000Z',
  opened_at: at.opened,
  ended_at: null,
  revision: 1_841,
};

export const grantedReport: z.input<typeof GrantedReport> = {
  boot_id: '5f2d6b1c-8f0e-4c58-9b3e-0c6a51a2d5b7',
  broker_epoch: epoch,
  after: 1_840,
  through: 1_843,
  as_of: at.told,
  sessions: [session],
  leases: [
    {
      id: 'lease-1842',
      token: '2.1.1842',
      session: 'session-1841',
      holder: 'squid',
      slice: 'slice-43',
      protocol: 'tcp',
      ports: { first: 12_288, last: 12_415 },
      mode: 'exclusive',
      binding: null,
      state: 'active',
      ending: null,
      refusal: null,
      granted_at: at.granted,
      active_at: at.active,
      ending_at: null,
      empty_at: null,
      reusable_at: null,
      ended_at: null,
      revision: 1_843,
    },
  ],
  ports: [
    { pool: 'fra1', family: 4, protocol: 'tcp', state: 'exclusive', ports: 128 },
    { pool: 'fra1', family: 4, protocol: 'tcp', state: 'free', ports: 1_920 },
  ],
  counters: { granted: 512, refused: 0, ended: 511 },
};
export const grantedAnswer: GrantedAnswer = { broker_epoch: epoch, through: 1_843, page: 0, rejected: [] };

export const forwardedAnswer: z.input<typeof ForwardedAnswer> = {
  id: '8c6f0c52-3a8e-4a5c-9a55-58a6f2f2a0d1.17',
  status: 201,
  content_type: 'application/json',
  body: { ...session, machine: 'edge-1' },
};
