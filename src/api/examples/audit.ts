const at = '2026-01-31T14:03:07.000000Z';

export const auditPage = {
  items: [
    {
      id: 'audit-12',
      at,
      actor: { token: 'token-3', name: 'alice', role: 'operator' },
      request_id: '5d0c1b2e-1f',
      remote_address: '192.0.2.7',
      operation: 'updateMachine',
      target: 'machines/edge-1',
      outcome: 'done',
      code: null,
      revision: 1_842,
      first_revision: 1_842,
      changes: [{ item: 'machines/edge-1', fields: { state: { before: 'active', after: 'cordoned' } } }],
      changes_omitted: 0,
    },
    {
      id: 'audit-11',
      at,
      actor: null,
      request_id: '5d0c1b2e-1e',
      remote_address: '203.0.113.9',
      operation: 'createToken',
      target: 'tokens',
      outcome: 'denied',
      code: 'unauthenticated',
      revision: null,
      first_revision: null,
      changes: [],
      changes_omitted: 0,
    },
  ],
  next: null,
};
