/**
 * Everything that a command can be refused for: facts, no HTTP. Codes are stable and never reused; docs/errors.md gives
 * cause and remedy of each.
 */
type Codes = {
  pool_exists: { pool: string };
  pool_not_found: { pool: string };
  prefix_overlap: { prefix: string; other: string; pool: string };
  /** `prefix` of the carve-out is in none of the pool's. */
  carve_out_outside_pool: { prefix: string; pool: string };
  /** What would be withdrawn or carved out is part of a slice that a machine has. */
  space_in_use: { prefix: string; slice: number; machine: string | null; state: string };
  /** A slice of the pool belongs to a machine: the one with the lowest id. */
  pool_in_use: { pool: string; slice: number; machine: string | null; state: string };
  /** Somebody changed it since: `current` is its revision now. `given`: null for whichever; `current`: null where it is not there. */
  precondition_failed: { item: string; given: number | readonly number[] | null; current: number | null };
  pool_too_small: { pool: string; slicePorts: number; first: number; last: number };
  machine_exists: { machine: string };
  machine_not_found: { machine: string };
  /** `item`: one of what lives there, a slice or a session. */
  machine_in_use: { machine: string; item: string; state: string };
  /** An operator stated that it cannot send: its keepalives are not answered. */
  machine_lost: { machine: string };
  machine_not_active: { machine: string; state: string };
  /** Where no agent is, nobody but the server could grant. */
  allocator_needs_agent: { machine: string };
  holder_not_found: { machine: string; holder: string };
  /** Neither user id nor cgroup. */
  holder_needs_identity: { machine: string; holder: string };
  holder_uid_root: { machine: string; holder: string };
  /** `other` is the holder on this machine that has the user id. */
  holder_uid_taken: { machine: string; holder: string; uid: number; other: string };
  /** `other` is a holder on this machine whose cgroup is the same, or one above or below it. */
  holder_cgroup_taken: { machine: string; holder: string; cgroup: string; other: string; otherCgroup: string };
  /** `item`: one of what lives of it, a session or a lease. */
  holder_in_use: { machine: string; holder: string; item: string; state: string };
  holder_kind_fixed: { machine: string; holder: string; kind: string };
  /** With what the request asks for, the holder would have more ports of the protocol than it may. */
  holder_ports_exceeded: {
    machine: string;
    holder: string;
    protocol: string;
    held: number;
    ports: number;
    max: number;
  };
  /**
   * With what the request asks for, the holder would have more than is kept for itself. `kept`: what other holders of the
   * machine have a right to and do not have yet; `free`: what there is.
   */
  ports_kept_for_others: { machine: string; protocol: string; ports: number; free: number; kept: number };
  holder_sessions_exceeded: { machine: string; holder: string; max: number };
  limited_holders_exceeded: { machine: string; max: number };
  slice_not_found: { slice: number };
  slice_misaligned: { firstPort: number; slicePorts: number };
  slice_outside_pool: { address: string; firstPort: number; pool: string };
  slice_carved_out: { address: string; firstPort: number; pool: string };
  slice_taken: { address: string; firstPort: number; machine: string | null; state: string };
  slice_there_already: { slice: number; machine: string };
  /** A slice is reclaimed only from a machine that cannot send. */
  machine_reachable: { machine: string; state: string };
  /** `at`: when the machine's guard has shut for certain. */
  reclaim_too_early: { slice: number; machine: string; at: number };
  /** A keepalive of an agent that has not applied what was taken back: `revision` is the least that it must have. */
  machine_behind: { machine: string; revision: number };
  /** An agent of another boot was heard, and may have its guard open until `at`. */
  machine_taken: { machine: string; at: number };
  /** A broker's report does not follow what was told before. Where that ends: `epoch` null: nothing was told. */
  report_gap: { machine: string; epoch: string | null; through: number; page: number };
  slice_not_assigned: { slice: number; state: string };
  slices_exhausted: { pool: string; wanted: number; available: number };
  session_not_found: { session: number };
  session_ended: { session: number; ending: string };
  shared_needs_tcp: { protocol: string };
  binding_needs_shared: object;
  ports_exceed_slice: { ports: number; slicePorts: number };
  block_misaligned: { firstPort: number; ports: number };
  block_not_owned: { address: string; firstPort: number; machine: string };
  /**
   * The very block that was asked for is not free. `state` is that of one thing in it: of the live lease that begins last,
   * or else of the blocked or cooling extent that begins last.
   */
  block_taken: { address: string; firstPort: number; state: string };
  /** No slice of this machine (with this pool, family, allocator) exists to grant from. `address`: that the claim names. */
  no_slices: { machine: string; address: string | null };
  /**
   * Slices exist, but no free extent is large enough. `address`: that the claim names. `nextAt`: when the next ports of the
   * machine leave cooldown, if any rest.
   */
  no_ports: { machine: string; address: string | null; protocol: string; ports: number; nextAt: number | null };
  /**
   * The machine has slices that would serve the claim, and grants in them itself. `slice`: the one that was asked for by
   * name; `address`: that the claim names. `nextAt`: when the next ports of those that the server grants from leave cooldown,
   * where these are only full.
   */
  machine_allocates: { machine: string; address: string | null; slice: number | null; nextAt: number | null };
  revocation_not_found: { revocation: number };
  /** No pool has labels that the selector is about. */
  nothing_selected: object;
  /** No address of the machine has room for all `leases` of the request. `addresses`: how many were tried. */
  no_common_address: { machine: string; leases: number; addresses: number };
  lease_not_found: { lease: number };
  lease_over: { lease: number; state: string; ending: string | null };
  stale_token: { item: string; given: string; current: string };
  not_yours: { item: string };
  nothing_blocked: { slice: number; protocol: string };
  router_not_found: { router: string };
  /** `newest` is where the log ends. */
  revision_unknown: { revision: number; newest: number };
  token_not_found: { token: number };
  token_not_live: { token: number; state: 'expired' | 'revoked' };
  token_expiry_past: { expiresAt: number; now: number };
  /** `usedAt`: when another request came under this key. */
  idempotency_key_reused: { key: string; usedAt: number };
  /** A request came again, and what it was granted then is over by now. All of it is listed, also what is not over. */
  replay_over: { items: readonly Readonly<{ item: string; state: string; ending: string | null }>[] };
  secret_shown_once: { token: number };
  /** The epoch is in doubt; or it is confirmed, and a machine may still send by what the table lost. */
  read_only_epoch: { epoch: number; isConfirmed: boolean };
  epoch_superseded: { epoch: number; current: number };
};

export type LeaseErrorCode = keyof Codes;
export type LeaseError = { [C in LeaseErrorCode]: Readonly<{ code: C }> & Readonly<Codes[C]> }[LeaseErrorCode];
