import type { Role } from '../leases/model.ts';

const operator = ['operator'] as const;
const readers = ['operator', 'viewer'] as const;
const readersAndAgent = ['operator', 'viewer', 'agent'] as const;
const everyone = ['operator', 'viewer', 'agent', 'holder'] as const;
const everybody = ['operator', 'viewer', 'agent', 'holder', 'router'] as const;
const users = ['operator', 'agent', 'holder'] as const;
const agent = ['agent'] as const;
const readersAndRouter = ['operator', 'viewer', 'router'] as const;
const router = ['router'] as const;

/**
 * Who may call what: every operation of the API and the roles that may call it; `open` needs no token. Agents and holders
 * are further bound to what is theirs (see plugins/auth.ts): an agent to its machine, a holder and a router to
 * itself.
 *
 * An operation that is not in this table cannot be declared, and a test calls every one with every wrong role.
 */
export const access = {
  createPool: operator,
  listPools: readers,
  getPool: readers,
  updatePool: operator,
  deletePool: operator,

  createMachine: operator,
  listMachines: readers,
  getMachine: readersAndAgent,
  updateMachine: operator,
  deleteMachine: operator,
  putHolder: operator,
  deleteHolder: operator,
  getHolder: readersAndAgent,
  listHolders: readersAndAgent,

  assignSlices: operator,
  listSlices: readers,
  getSlice: readers,
  listExtents: readers,
  drainSlice: operator,
  moveSlice: operator,
  reclaimSlice: operator,
  setAllocator: operator,
  unblockExtent: operator,

  openSession: users,
  listSessions: readers,
  getSession: everyone,
  keepSession: users,
  endSession: users,

  grantLeases: users,
  explainGrant: everyone,
  listLeases: everyone,
  getLease: everyone,
  releaseLease: users,
  revokeLease: operator,
  revokeLeases: operator,
  listRevocations: readers,
  getRevocation: readers,

  getDesired: readersAndAgent,
  watchMachine: readersAndAgent,
  reportApplied: agent,
  keepMachine: agent,
  answerFlowQuery: agent,
  reportGranted: agent,
  answerRequest: agent,

  listEvents: readers,
  watchEvents: readers,
  listAudit: readers,
  getEpoch: everyone,
  confirmEpoch: operator,
  attribute: readers,
  attributionHistory: readers,
  attributeBulk: readers,

  getRoutes: readersAndRouter,
  watchRoutes: readersAndRouter,
  putRouter: operator,
  listRouters: readers,
  getRouter: readersAndRouter,
  deleteRouter: operator,
  reportRoutesApplied: router,

  createToken: operator,
  listTokens: operator,
  getToken: operator,
  getOwnToken: everybody,
  updateToken: operator,
  rotateToken: operator,
  revokeToken: operator,

  getAbout: 'open',
  getHealth: 'open',
  getReadiness: 'open',
  /** `open` where the setting `metrics_open` says so. */
  getMetrics: readers,
  getOpenApi: 'open',
} as const satisfies Readonly<Record<string, readonly Role[] | 'open'>>;

export type OperationId = keyof typeof access;

export const rolesOf = (id: OperationId): readonly Role[] | 'open' => access[id];
