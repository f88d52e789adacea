/** Every reason for a drop, and every reason for steering, has a counter. Names are stable: metrics carry them. */
export const counterNames = [
  /** The guard is shut: no keepalive was answered in time. */
  'guard_dead',
  /** From the TUN device, with a source that fish does not lease, or a fragment that does not say its port. */
  'guard_fish',
  /** Forwarded from anywhere else (a container, a bridge) with a pool address as source. */
  'guard_forwarded',
  /** Something new from a port whose lease ends: a connection, any datagram, an echo. */
  'guard_ending',
  /** From a socket of a user who does not lease the port. */
  'guard_uid',
  /** From a socket in a cgroup that does not lease the port, on a block that a cgroup leases. */
  'guard_cgroup',
  /** From a socket that had another source when cgroups were judged, moved by NAT onto a block that a cgroup leases. */
  'guard_translated',
  /**
   * From the kernel itself (a reset, an ICMP error) or a closed socket, on a port that no proxy here leases; a SYN cookie or a
   * datagram on any.
   */
  'guard_unowned',
  /** To a leased port, and no socket is there: dropped in silence instead of answered with a reset. */
  'orphan',
  /** To fish, because a placeholder holds this 5-tuple. */
  'steer_placeholder',
  /** To fish, because the block is its own. */
  'steer_block',
  'steer_echo',
  /** To fish: an ICMP error that quotes a packet from a block of its own. */
  'steer_error',
  /** To fish: from a client to a port of fish's that is shared, and no socket is there: another client may be meant. */
  'steer_hairpin',
  /** A connection that begins, to the terminator. */
  'terminate_new',
  /** What belongs to a connection of the terminator, or an ICMP error about one. */
  'terminate_known',
  /** A connection that would have begun, and no terminator is there: dropped, for the client to try again. */
  'terminate_absent',
] as const;
export type CounterName = (typeof counterNames)[number];
