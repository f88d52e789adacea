import type { z } from 'zod';
import type { Explain, Explanation } from '../../wire/explain.ts';

/** HAProxy would get sixteen UDP ports of one address, but no block of 1,024 TCP ports: the largest that is free has half as many. */

export const explain: z.input<typeof Explain> = {
  machine: 'edge-1',
  holder: 'haproxy',
  claims: [
    { protocol: 'udp', ports: 16, address: '198.51.100.0' },
    { protocol: 'tcp', ports: 1_024, select: 'country=de' },
  ],
};
const reason = {
  code: 'no_ports',
  title: 'No free block is large enough',
  detail:
    'no free block of 1024 tcp ports on "edge-1"; the next ports leave their cooldown at 2026-01-31T14:07:00.000000Z',
  cause: 'The slices of this machine are full, or their free pieces are too small for this lease.',
  remedy:
    'Wait for `retry_after_s` when it is given (then ports leave their cooldown), ask for less, or assign another slice to the machine.',
};
const room = { pool: 'fra1', family: 4, unsuitable: null } as const;
export const explanation: Explanation = {
  granted: false,
  reason,
  failed_claim: 1,
  leases: [],
  claims: [
    {
      granted: true,
      reason: null,
      rooms: [
        {
          ...room,
          ports: {
            free: 2_048,
            withheld: 0,
            machine_allocated: 2_048,
            exclusive: 0,
            shared: 0,
            cooling: 0,
            blocked: 0,
          },
          largest_block_ports: 2_048,
        },
        {
          ...room,
          family: 6,
          unsuitable: 'other_address',
          ports: {
            free: 2_048,
            withheld: 0,
            machine_allocated: 0,
            exclusive: 0,
            shared: 0,
            cooling: 0,
            blocked: 0,
          },
          largest_block_ports: 2_048,
        },
      ],
      next_ports_at: null,
    },
    {
      granted: false,
      reason,
      rooms: [
        {
          ...room,
          ports: {
            free: 768,
            withheld: 0,
            machine_allocated: 2_048,
            exclusive: 1_024,
            shared: 128,
            cooling: 128,
            blocked: 0,
          },
          largest_block_ports: 512,
        },
      ],
      next_ports_at: '2026-01-31T14:07:00.000000Z',
    },
  ],
  machine: 'edge-1',
  machine_state: 'active',
  holder: 'haproxy',
  revision: 64,
};
