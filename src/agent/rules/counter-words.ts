import type { CounterName } from './counters.ts';

/** What a rule with this counter does with a packet, and why: for people. */
export const counterWords: Readonly<Record<CounterName, Readonly<{ does: string; why: string }>>> = {
  guard_dead: { does: 'dropped', why: 'the guard is shut, because no keepalive was answered in time' },
  guard_fish: { does: 'dropped', why: 'it comes from fish, with a source that fish does not lease, or is a fragment' },
  guard_forwarded: { does: 'dropped', why: "forwarded from somewhere else with a pool's address as its source" },
  guard_ending: { does: 'dropped', why: 'something new from a port whose lease ends' },
  guard_uid: { does: 'dropped', why: 'a socket of another user than the one who leases the port' },
  guard_cgroup: { does: 'dropped', why: 'a socket of another cgroup than the one that leases the port' },
  guard_translated: { does: 'dropped', why: "others' NAT has moved it onto a block that a cgroup leases" },
  guard_unowned: {
    does: 'dropped',
    why: 'from the kernel itself, or a closed socket, on a port that no proxy here leases, or a SYN cookie',
  },
  orphan: { does: 'dropped', why: 'to a leased port, and no socket is there' },
  steer_placeholder: { does: 'to fish', why: 'a placeholder holds this port, or this flow' },
  steer_block: { does: 'to fish', why: 'fish has the block to itself' },
  steer_echo: { does: 'to fish', why: 'an echo reply to an identifier of its own' },
  steer_error: { does: 'to fish', why: 'an ICMP error that quotes a packet from a block of its own' },
  steer_hairpin: { does: 'to fish', why: 'from a client to a port that fish shares, and no socket is there' },
  terminate_new: { does: 'to the terminator', why: 'a connection that begins' },
  terminate_known: { does: 'to the terminator', why: 'it belongs to a connection of its own' },
  terminate_absent: { does: 'dropped', why: 'a connection that would have begun, and no terminator is there' },
};
