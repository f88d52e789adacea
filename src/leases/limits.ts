/** Every bound of the core, with its unit in the name and its reason beside it. */
export const limits = {
  /** Commands in one transaction: large enough that one fsync is shared by hundreds, small enough to stay below a few ms. */
  batch_commands_max: 512,
  /** Claims, reports and slices in one transaction; a single command may be as heavy as its own bound below. */
  batch_weight_max: 1_024,
  /** Commands that wait for their transaction. Beyond it the caller is told to come back, rather than kept waiting. */
  waiting_commands_max: 65_536,
  /** Also when a claim asks for many alike. */
  leases_per_grant_max: 1_024,
  /** Slices of one pool that a request looks through for some with room, when its leases are to be spread or on one address. */
  slices_looked_at_max: 1_024,
  /** Slices with room that a request spreads its leases over. */
  spread_slices_max: 256,
  /** Addresses on which a request for one common address is tried. */
  common_addresses_tried_max: 16,
  /** Holders of one machine that have limits: a grant there looks at all of them. */
  limited_holders_max: 256,
  slices_per_assign_max: 1_024,
  /** Slices that one step assigns for each want of a machine. */
  slices_per_want_step: 8,
  /** How long until a machine that is short of slices, or has all that it wants, is looked at again. */
  wants_unmet_look_us: 10_000_000,
  wants_met_look_us: 300_000_000,
  reports_max: 20_000,
  /** Sessions and leases in one report of a broker: it bounds how long a grant waits behind it. */
  report_entries_max: 2_000,
  /** Rows of a broker that one report ends because a snapshot did not tell of them. */
  lost_rows_per_report: 2_000,
  /** Tokens whose last use is noted by one command. */
  token_uses_max: 1_000,
  /** Rows of each kind that one sweep moves: it bounds how long a grant can wait behind it. */
  sweep_items_max: 250,
  /** Revocations whose leases are still following: each lease that is looked at is held against all of them. */
  revocations_in_effect_max: 16,
  /** Of those that are about more than a slice, in a snapshot for a machine that grants itself. */
  revocations_told_max: 1_000,
  /** Events that one step of the log's compaction drops. */
  compacted_events_max: 2_000,
  /** Kept answers, or entries of the audit log, that one step forgets. */
  forgotten_rows_max: 2_000,
  /** For how long an answer is kept at least for its request to come again, unless set otherwise. */
  answers_kept_us: 86_400_000_000,
  /** How long it stays known who had what, unless an operator says otherwise: 90 days. */
  history_kept_us: 90 * 86_400_000_000,
  /** Rows that one step of the retention removes, each out of half a dozen indexes of a long past. */
  pruned_rows_max: 50,
  /** How long the retention waits when nothing is due. */
  prune_pause_ms: 60_000,
  /** Changed things that one entry of the audit log tells of; the number of the others is told. */
  audit_changes_max: 16,
  /** Denied requests that are written down together. */
  denials_max: 100,
  /** For how long the audit log is kept at least, unless set otherwise: 90 days. */
  audit_kept_us: 7_776_000_000_000,
  /** How late an expiry or the end of a rest may show, when the server is idle. */
  sweep_pause_ms: 500,
  /** Events that the log keeps at least: an agent that was away for less goes on from where it was. */
  events_kept_min: 1_000_000,
  /** By how much a host's clock may run slower than the server's during a fence: its guard shuts so much later. */
  clock_skew_us: 1_000_000,
  /** The longest fence that a machine can have: after it, one that is not answered provably sends nothing. */
  fence_us_max: 3_600_000_000,
  /** An epoch's first revision is a multiple of this, plus one: half a year of the highest rate there is. */
  epoch_revisions: 1_000_000_000_000,
  /** A client that claims to have seen an epoch further ahead is not believed that far: numbers must last. */
  epochs_ahead_max: 16,
  /** Two clocks that drift apart by more than this from one transaction to the next: one of them was set. */
  clock_jump_us_max: 2_000_000,
  /** Free extents that a batch loads at first for the claims that compete for them; more, when these may not do. */
  window_rows_first: 4,
  /**
   * Shared blocks that a claim looks at, least crowded first, for one its holder is not on yet. A holder that is on all
   * of these gets a block of its own, or `no_ports` when nothing is free.
   */
  shared_blocks_looked_at_max: 256,
} as const;
