import type { LeaseError, LeaseErrorCode } from '../leases/errors.ts';
import { formatInstant } from '../wire/instants.ts';

/** What HTTP makes of one thing that can go wrong. */
export type ErrorKind = Readonly<{
  status: number;
  /** The same for every occurrence (RFC 9457, section 3.1.3). */
  title: string;
  cause: string;
  remedy: string;
  /** The same request may succeed later without anybody changing anything. */
  passing?: true;
}>;

type LeaseErrorOf = { [E in LeaseError as E['code']]: E };
type LeaseErrorKinds = Readonly<{
  [C in LeaseErrorCode]: ErrorKind & Readonly<{ detail: (error: LeaseErrorOf[C]) => string }>;
}>;

/** What the core refuses. A new error of the core does not compile until it has a status, a cause and a remedy. */
export const leaseErrors: LeaseErrorKinds = {
  pool_exists: {
    status: 409,
    title: 'The pool exists already',
    cause: 'There is a pool of this name.',
    remedy: 'Choose another name, or read the pool that is there.',
    detail: (e) => `there is a pool "${e.pool}" already`,
  },
  pool_not_found: {
    status: 404,
    title: 'No such pool',
    cause: 'The request names a pool that was never created.',
    remedy: 'List the pools (`GET /v1/pools`) and use one of their names, or create it.',
    detail: (e) => `there is no pool "${e.pool}"`,
  },
  prefix_overlap: {
    status: 409,
    title: 'Prefixes overlap',
    cause: 'Two prefixes, of one pool or of two, have addresses in common. An address belongs to one pool.',
    remedy: 'Leave out the addresses that are in the other prefix, or split the prefix around them.',
    detail: (e) => `${e.prefix} overlaps ${e.other} of pool "${e.pool}"`,
  },
  carve_out_outside_pool: {
    status: 422,
    title: 'The carve-out is outside of the pool',
    cause:
      'A carve-out names addresses of which none is in a prefix of the pool. That is a mistake more often than not.',
    remedy: 'Correct its prefix or address. Withdrawing a prefix, leave out the carve-outs in it by the same request.',
    detail: (e) => `the carve-out ${e.prefix} is in no prefix of pool "${e.pool}"`,
  },
  space_in_use: {
    status: 409,
    title: 'A machine has a slice there',
    cause: 'A prefix is withdrawn or carved out only where no slice is in use or resting.',
    remedy: 'Drain the slice (`POST /v1/slices/{id}/drain`), wait until it is free, and try again.',
    detail: (e) =>
      `in ${e.prefix} there is slice-${e.slice}, ${e.state}` + (e.machine === null ? '' : ` on "${e.machine}"`),
  },
  pool_in_use: {
    status: 409,
    title: 'Machines have slices of the pool',
    cause: 'A pool is deleted only when no slice of it is in use or resting.',
    remedy: 'Drain its slices (`GET /v1/slices?pool=…`), wait until they are free, and try again.',
    detail: (e) =>
      `slice-${e.slice} of pool "${e.pool}" is ${e.state}` + (e.machine === null ? '' : ` on "${e.machine}"`),
  },
  precondition_failed: {
    status: 412,
    title: 'It was changed since',
    cause:
      'If-Match names a revision that is not the present one: somebody changed the thing after it was read, or took it away. ' +
      'Or If-None-Match: * asks for a thing that is not there yet, and it is.',
    remedy: 'Read it again, look whether the change still makes sense, and repeat it with the new ETag.',
    detail: (e) =>
      e.current === null
        ? `there is no ${e.item}, and If-Match asks for ${e.given === null ? 'any' : `revision ${[e.given].flat().join(' or ')}`}`
        : Array.isArray(e.given) && e.given.length === 0
          ? `${e.item} is there already, at revision ${e.current}, and If-None-Match asks for none`
          : `${e.item} is at revision ${e.current}, not ${[e.given].flat().join(' or ')}`,
  },
  pool_too_small: {
    status: 422,
    title: 'The pool would have no slice',
    cause: 'No aligned slice of this size lies wholly inside the usable port range.',
    remedy: 'Widen `usable_ports` or make `slice_ports` smaller.',
    detail: (e) => `no aligned slice of ${e.slicePorts} ports fits in ${e.first}-${e.last} (pool "${e.pool}")`,
  },
  machine_exists: {
    status: 409,
    title: 'The machine exists already',
    cause: 'A machine of this name was created before, and not deleted.',
    remedy: 'Choose another name, or update the machine that is there (`PATCH /v1/machines/{id}`).',
    detail: (e) => `there is a machine "${e.machine}" already`,
  },
  machine_not_found: {
    status: 404,
    title: 'No such machine',
    cause: 'The request names a machine that was never created, or was deleted.',
    remedy: 'List the machines (`GET /v1/machines`) and use one of their names, or create it.',
    detail: (e) => `there is no machine "${e.machine}"`,
  },
  machine_in_use: {
    status: 409,
    title: 'Something lives on the machine',
    cause:
      'A machine is deleted only when it has no slice, not even one that rests, and no holder has a live session there.',
    remedy:
      'Drain it (`PATCH /v1/machines/{id}` with state `draining`, or `lost` when it is gone for good), end its sessions (`DELETE /v1/sessions/{id}`), and wait until `GET /v1/slices?machine=…` is empty.',
    detail: (e) => `${e.item} of machine "${e.machine}" is ${e.state}`,
  },
  machine_lost: {
    status: 409,
    title: 'The machine is stated to be lost',
    cause:
      'An operator stated that this machine cannot send, and its slices are given to others. An answered keepalive would open its guard again.',
    remedy:
      'Find out why it was given up. When it is to come back, set its state to `active` (`PATCH /v1/machines/{id}`): what was reclaimed meanwhile it does not get back.',
    detail: (e) => `machine "${e.machine}" is lost, so its keepalives are not answered`,
  },
  machine_not_active: {
    status: 409,
    title: 'The machine takes nothing new',
    cause:
      'The machine is cordoned, draining, fenced or lost. What it has stays as it is; nothing new is granted on it.',
    remedy: 'Use another machine. A cordoned one is made active again with `PATCH /v1/machines/{id}`.',
    detail: (e) => `machine "${e.machine}" is ${e.state}`,
  },
  holder_not_found: {
    status: 404,
    title: 'No such holder',
    cause: 'The machine has no holder of this name. Sessions are opened for holders that an operator declared.',
    remedy: 'Declare it with `PUT /v1/machines/{id}/holders/{name}`.',
    detail: (e) => `machine "${e.machine}" has no holder "${e.holder}"`,
  },
  holder_needs_identity: {
    status: 409,
    title: 'The holder needs a user id or a cgroup',
    cause:
      "A proxy on a machine with an agent is told apart by its sockets' user id or cgroup, and this holder has neither.",
    remedy: 'Set `uid` or `cgroup` with `PUT /v1/machines/{id}/holders/{name}`.',
    detail: (e) =>
      `holder "${e.holder}" on "${e.machine}" has no uid and no cgroup, and the egress guard knows it by nothing else`,
  },
  holder_uid_root: {
    status: 422,
    title: 'A holder cannot be root',
    cause:
      'The egress guard tells the holders of a machine apart by the user id of their sockets. Root (uid 0) may do anything on the host, take other user ids included, so nothing can be promised to or about a proxy that runs as root.',
    remedy:
      'Run the proxy as a user of its own and set `uid` to that user; or set `cgroup` to the control group of its service.',
    detail: (e) => `holder "${e.holder}" on "${e.machine}" would have uid 0, which is root`,
  },
  holder_uid_taken: {
    status: 409,
    title: 'Another holder has this user id',
    cause:
      'The egress guard tells the holders of a machine apart by the user id of their sockets. Two with the same one could use each other’s ports. This holds on a machine without an agent too, so that one can be installed later.',
    remedy: 'Run each proxy as a user of its own, or let both services use one holder and share its leases.',
    detail: (e) => `uid ${e.uid} on "${e.machine}" is that of holder "${e.other}", so "${e.holder}" cannot have it`,
  },
  holder_cgroup_taken: {
    status: 409,
    title: 'Another holder has this cgroup, or one around it',
    cause:
      'The egress guard tells such holders of a machine apart by the control group of their sockets, and what is in a control group is also in all above it. So the cgroups of two holders are neither the same nor one below the other.',
    remedy:
      'Run each proxy in a control group of its own (a systemd service has one), or let both use one holder and share its leases.',
    detail: (e) =>
      `"${e.holder}" on "${e.machine}" cannot have cgroup ${e.cgroup}: holder "${e.other}" has ${e.cgroup === e.otherCgroup ? 'the same' : e.otherCgroup}`,
  },
  holder_kind_fixed: {
    status: 409,
    title: 'The kind of a holder cannot be changed',
    cause: 'Leases of a fish and of a proxy are enforced differently, so a holder stays what it was declared as.',
    remedy: 'Declare a second holder under another name.',
    detail: (e) => `holder "${e.holder}" on "${e.machine}" is of kind ${e.kind}`,
  },
  holder_in_use: {
    status: 409,
    title: 'The holder uses ports',
    cause:
      'A holder is deleted only when it has no live session and no lease that is pending, active or ending: until then somebody may send by its right. Ports that rest do not count.',
    remedy:
      'End its sessions (`DELETE /v1/sessions/{id}`) or take its leases (`POST /v1/revocations` with `machine` and `holder`), and wait until `GET /v1/leases?machine=…` shows none of its leases as pending, active or ending.',
    detail: (e) => `${e.item} of holder "${e.holder}" on "${e.machine}" is ${e.state}`,
  },
  holder_ports_exceeded: {
    status: 409,
    title: 'The holder would have too many ports',
    cause: 'The ports that the holder has of this protocol and those that it asks for are more than its `ports_max`.',
    remedy:
      'Release leases first (one counts until its ports are proven unused), ask for less, or have an operator raise `ports_max` of the holder.',
    detail: (e) =>
      `holder "${e.holder}" on "${e.machine}" has ${e.held} ${e.protocol} ports and would have ${e.held + e.ports}; it may have ${e.max}`,
  },
  ports_kept_for_others: {
    status: 503,
    title: 'What is free is kept for other holders',
    cause:
      'Other holders of the machine have a `ports_min` that they have not used yet, and no more than that is free. What a holder asks for within its own `ports_min` is never refused for this.',
    remedy:
      'Assign another slice to the machine, ask for less, or have an operator lower `ports_min` of those holders or raise that of this one.',
    passing: true,
    detail: (e) =>
      `${e.free} ${e.protocol} ports are free on "${e.machine}", and ${e.kept} are kept for other holders: ${e.ports} are too many`,
  },
  holder_sessions_exceeded: {
    status: 409,
    title: 'The holder has as many sessions as it may have',
    cause: 'The holder has `sessions_max` live sessions.',
    remedy: 'End a session first, or wait until one expires; or have an operator raise `sessions_max` of the holder.',
    detail: (e) => `holder "${e.holder}" on "${e.machine}" may have ${e.max} live sessions, and has them`,
  },
  limited_holders_exceeded: {
    status: 409,
    title: 'Too many holders of the machine have limits',
    cause: 'Each grant on a machine looks at the limits of all its holders; so there is a bound to how many have some.',
    remedy: 'Take the limits of another holder of the machine away: put it with `limits: null`.',
    detail: (e) => `"${e.machine}" may have ${e.max} holders with limits, and has them`,
  },
  slice_not_found: {
    status: 404,
    title: 'No such slice',
    cause: 'No slice has this id. Slices exist from their first assignment on.',
    remedy: 'List the slices (`GET /v1/slices`).',
    detail: (e) => `there is no slice-${e.slice}`,
  },
  slice_misaligned: {
    status: 422,
    title: 'The slice is not aligned',
    cause: 'A slice starts at a multiple of its size, so that the kernel matches it with one hash lookup.',
    remedy: "Use a `first_port` that is a multiple of the pool's `slice_ports`.",
    detail: (e) => `first_port ${e.firstPort} is not a multiple of ${e.slicePorts}`,
  },
  slice_outside_pool: {
    status: 422,
    title: 'The slice is not part of the pool',
    cause: 'The address is in none of the prefixes of the pool, or the ports are outside its usable range.',
    remedy: 'Read the pool (`GET /v1/pools/{id}`) for its prefixes and `usable_ports`.',
    detail: (e) => `${e.address} from port ${e.firstPort} is outside pool "${e.pool}"`,
  },
  slice_carved_out: {
    status: 409,
    title: 'The slice is carved out',
    cause: 'A carve-out of the pool takes this place, or a part of it, out of what is handed out.',
    remedy: 'Leave out `at` for any free slice, or remove the carve-out with `PATCH /v1/pools/{id}`.',
    detail: (e) => `${e.address} from port ${e.firstPort} is carved out of pool "${e.pool}"`,
  },
  slice_taken: {
    status: 409,
    title: 'The slice is taken',
    cause: 'A machine owns this very slice, or it rests after one did.',
    remedy: 'Leave out `at` for any free slice, or drain this one and wait for the end of its cooldown.',
    detail: (e) =>
      `${e.address} from port ${e.firstPort} is ${e.state}` + (e.machine === null ? '' : ` on "${e.machine}"`),
  },
  slice_there_already: {
    status: 409,
    title: 'The slice is on that machine already',
    cause: 'A slice moves to another machine than the one that has it.',
    remedy: 'Name another machine, or leave the slice where it is.',
    detail: (e) => `slice-${e.slice} is on "${e.machine}"`,
  },
  allocator_needs_agent: {
    status: 409,
    title: 'Nobody on the machine could allocate',
    cause:
      'A slice with the allocator `machine` is granted from by the agent of its machine, and this one has none (`enforcement: none`).',
    remedy: 'Leave the slice to the allocator `server`, or name a machine that has an agent.',
    detail: (e) => `machine "${e.machine}" has no agent that could grant in a slice`,
  },
  machine_reachable: {
    status: 409,
    title: 'The machine may still send',
    cause: 'A slice is reclaimed only from a machine that is `fenced` or `lost`: any other must prove it empty itself.',
    remedy:
      'Drain or move the slice instead. When the machine is gone for good, say so: `PATCH /v1/machines/{id}` with state `lost`.',
    detail: (e) => `machine "${e.machine}" is ${e.state}`,
  },
  reclaim_too_early: {
    status: 409,
    title: 'The fence has not shut for certain yet',
    cause:
      "The machine's guard shuts by itself when no keepalive was answered for its fence. Until then, and a margin for the difference of two clocks, the machine may send.",
    remedy: 'Try again when `Retry-After` is over.',
    passing: true,
    detail: (e) => `machine "${e.machine}" may send until ${formatInstant(e.at)}, so slice-${e.slice} stays its own`,
  },
  report_gap: {
    status: 409,
    title: 'The report does not follow what was told before',
    cause:
      'Something of the broker’s log between its last report and this one is missing here, or its first snapshot is, or it is another broker than the one that was heard.',
    remedy:
      'Go on from where `broker` says that the server stands: tell what came after, or, where that is of another epoch or no longer in the log, a snapshot from its first page on.',
    detail: (e) =>
      e.epoch === null
        ? `nothing was told of the broker of machine "${e.machine}": it begins with a snapshot`
        : `of the broker of machine "${e.machine}" everything is known through ${e.through} of its epoch ${e.epoch}` +
          (e.page === 0 ? '' : `, and of a snapshot the pages through ${e.page}`),
  },
  machine_behind: {
    status: 409,
    title: 'The agent must take note first',
    cause:
      'Slices of this machine were reclaimed while it was out of reach. An answered keepalive would open its guard for ports that may be another machine’s by now.',
    remedy:
      'The agent takes a snapshot (`GET /v1/machines/{id}/desired`), makes it true, and sends its keepalive with the revision that it then has.',
    detail: (e) => `machine "${e.machine}" must have applied revision ${e.revision} before its guard may open again`,
  },
  machine_taken: {
    status: 409,
    title: 'Another boot speaks for the machine',
    cause:
      'An agent with another `boot_id` was answered, and its guard may still be open. Either the host was started anew a moment ago, or two hosts (two network namespaces of one kernel are two) say that they are this machine: one is a clone of the other.',
    remedy:
      'After a reboot, or in a container with a new network, nothing: the agent tries again, and is answered when the guard of the boot before has shut for certain (`Retry-After`). A clone gets a machine, a token and a `state_dir` of its own.',
    passing: true,
    detail: (e) =>
      `machine "${e.machine}" belongs to another boot of its host, or to another host, until ${formatInstant(e.at)} or as long as that is heard`,
  },
  slice_not_assigned: {
    status: 409,
    title: 'The slice is not in a state for this',
    cause: 'Only a slice that a machine owns can be drained.',
    remedy: 'Read the slice (`GET /v1/slices/{id}`); it is on its way already.',
    detail: (e) => `slice-${e.slice} is ${e.state}`,
  },
  slices_exhausted: {
    status: 409,
    title: 'The pool has not enough free slices',
    cause: 'Every slice of the pool is owned by a machine or rests after use.',
    remedy:
      'Drain slices that are not needed, or create a pool with more addresses. Resting slices become free by themselves.',
    detail: (e) => `${e.wanted} slices wanted, ${e.available} free in pool "${e.pool}"`,
  },
  session_not_found: {
    status: 404,
    title: 'No such session',
    cause: 'No session has this id.',
    remedy: 'Open one with `POST /v1/sessions`.',
    detail: (e) => `there is no session-${e.session}`,
  },
  session_ended: {
    status: 410,
    title: 'The session is over',
    cause:
      'The session was released or revoked, its machine was fenced, or it was not kept alive in time. Its leases ended with it.',
    remedy: 'Stop using its ports, open a new session and ask for new leases. A session never comes back.',
    detail: (e) => `session-${e.session} ended: ${e.ending}`,
  },
  shared_needs_tcp: {
    status: 422,
    title: 'Only TCP ports can be shared',
    cause:
      'Linux keeps 5-tuples apart for TCP sockets alone; two UDP or ICMP users of one port would get each other’s packets.',
    remedy: 'Ask for `mode: exclusive`.',
    detail: (e) => `mode shared with protocol ${e.protocol}`,
  },
  binding_needs_shared: {
    status: 422,
    title: 'A binding goes with shared leases only',
    cause:
      '`binding` says how all users of a shared block take a port. An exclusive lease has one user, who may do it either way.',
    remedy: 'Leave out `binding`, or ask for `mode: shared`.',
    detail: () => 'binding was given for an exclusive lease',
  },
  ports_exceed_slice: {
    status: 422,
    title: 'More ports than a slice has',
    cause: 'A lease lies inside one slice, and none of this machine is large enough.',
    remedy: 'Ask for several leases in one request; they are granted together or not at all.',
    detail: (e) => `${e.ports} ports wanted, the largest slice has ${e.slicePorts}`,
  },
  block_misaligned: {
    status: 422,
    title: 'The block is not aligned',
    cause: 'A lease is a power of two of ports and starts at a multiple of it.',
    remedy: 'Use a `first_port` that is a multiple of the size, rounded up to a power of two.',
    detail: (e) => `first_port ${e.firstPort} is not a multiple of ${e.ports}`,
  },
  block_not_owned: {
    status: 409,
    title: 'The machine does not own this block',
    cause: 'The block lies in no slice that is assigned to the machine of the session.',
    remedy: "Leave out `at`, or use ports of the machine's slices (`GET /v1/slices?machine=…`).",
    detail: (e) => `machine "${e.machine}" owns no slice with ${e.address} from port ${e.firstPort}`,
  },
  block_taken: {
    status: 409,
    title: 'The block is taken',
    cause: 'The very block that `at` asks for is leased, rests after use, or is blocked by a stranger.',
    remedy: 'Leave out `at` for any block, or look at the slice (`GET /v1/slices/{id}/extents`).',
    detail: (e) => `${e.address} from port ${e.firstPort} is ${e.state}`,
  },
  no_slices: {
    status: 409,
    title: 'The machine has no slice to grant from',
    cause: 'No assigned slice of this machine matches the claim (pool, labels, address family, address).',
    remedy: 'Assign slices to the machine (`POST /v1/slices`) and wait until they are `assigned`.',
    detail: (e) =>
      `machine "${e.machine}" has no assigned slice ${e.address === null ? '' : `on ${e.address} `}that matches`,
  },
  machine_allocates: {
    status: 409,
    title: 'The machine grants in its slices itself',
    cause:
      'The machine has slices that would serve the claim, and the allocator of these is the machine: the server never grants in them. Those that the server grants from, if it has any, are not what the claim asks for, or are full.',
    remedy:
      'Ask the broker on the host, or hand a slice over to the server (`POST /v1/slices/{id}/allocator`), or assign another one. With `retry_after_s` ports that the server grants from leave their cooldown then.',
    detail: (e) =>
      (e.slice === null
        ? `slices of "${e.machine}" ${e.address === null ? '' : `on ${e.address} `}would serve the claim, and it grants in them itself`
        : `"${e.machine}" grants in slice-${e.slice} itself`) +
      (e.nextAt === null ? '' : `; the next ports of others leave their cooldown at ${formatInstant(e.nextAt)}`),
  },
  no_ports: {
    status: 503,
    title: 'No free block is large enough',
    cause: 'The slices of this machine are full, or their free pieces are too small for this lease.',
    remedy:
      'Wait for `retry_after_s` when it is given (then ports leave their cooldown), ask for less, or assign another slice to the machine.',
    passing: true,
    detail: (e) =>
      `no free block of ${e.ports} ${e.protocol} ports on ${e.address === null ? '' : `${e.address} of `}"${e.machine}"` +
      (e.nextAt === null ? '' : `; the next ports leave their cooldown at ${formatInstant(e.nextAt)}`),
  },
  no_common_address: {
    status: 503,
    title: 'No address has room for all of it',
    cause:
      'The request wants its leases on one address (`placement: same_address`). There is room for them on this machine, but not on any one of the addresses that were tried.',
    remedy: 'Ask for fewer or smaller leases, for another placement, or assign the machine more slices of one address.',
    passing: true,
    detail: (e) =>
      `none of ${e.addresses} addresses of "${e.machine}" has room for all ${e.leases} leases of the request`,
  },
  revocation_not_found: {
    status: 404,
    title: 'No such revocation',
    cause: 'No revocation has this id.',
    remedy: 'List the revocations (`GET /v1/revocations`).',
    detail: (e) => `there is no revocation-${e.revocation}`,
  },
  nothing_selected: {
    status: 422,
    title: 'The selector selects nothing',
    cause: 'No pool has labels like that. That is a mistake more often than not.',
    remedy: 'List the pools (`GET /v1/pools`) and compare their labels.',
    detail: () => 'no pool has labels that the selector matches',
  },
  lease_not_found: {
    status: 404,
    title: 'No such lease',
    cause: 'No lease has this id.',
    remedy: 'List the leases (`GET /v1/leases`).',
    detail: (e) => `there is no lease-${e.lease}`,
  },
  lease_over: {
    status: 410,
    title: 'The lease is over',
    cause: 'The lease was released, revoked or refused before, or it ended with its session.',
    remedy: 'Stop using its ports. There is nothing left to release.',
    detail: (e) => `lease-${e.lease} is ${e.state}` + (e.ending === null ? '' : ` (${e.ending})`),
  },
  stale_token: {
    status: 409,
    title: 'The token is out of date',
    cause:
      'The message names an older generation, epoch or grant than the current one: it was meant for what was there before.',
    remedy: 'Read the lease or slice again and decide anew. A late message must not touch the next owner.',
    detail: (e) => `${e.item} has the token ${e.current}, the message says ${e.given}`,
  },
  not_yours: {
    status: 403,
    title: 'It belongs to somebody else',
    cause: 'The token is bound to one machine, holder or router, and what the request is about belongs to another.',
    remedy: 'Use the token of its holder, machine or router, or one of an operator.',
    detail: (e) => `${e.item} does not belong to this token`,
  },
  nothing_blocked: {
    status: 409,
    title: 'Nothing is blocked there',
    cause: 'The slice has no blocked extent with these very ports.',
    remedy: 'Use the `ports` of an extent in state `blocked` (`GET /v1/slices/{id}/extents`).',
    detail: (e) => `slice-${e.slice} has no blocked ${e.protocol} extent with these ports`,
  },
  router_not_found: {
    status: 404,
    title: 'No such router',
    cause: 'No router has this name.',
    remedy: 'List the routers (`GET /v1/routers`), or create it with `PUT /v1/routers/{id}`.',
    detail: (e) => `there is no router "${e.router}"`,
  },
  revision_unknown: {
    status: 409,
    title: 'The log has not come that far',
    cause:
      'The revision was never given out by this log. Whoever has it followed another one: the server was restored from a backup or began anew.',
    remedy:
      'Take a snapshot (`GET /v1/machines/{id}/desired`, `GET /v1/routes`, or the lists) and go on from its revision.',
    detail: (e) => `the log ends at revision ${e.newest}, and never had ${e.revision}`,
  },
  read_only_epoch: {
    status: 503,
    title: 'The table may lack what was answered before',
    cause:
      'The database was restored from a backup, lost its end in a failover, or is not the one that clients know: somebody may use ports that it takes for free. Nothing is granted, ended or freed until that is certain; keepalives and reads are answered. After an operator said so nothing is granted yet while a machine may send by what the table lost: its agent drops that as soon as it hears of it, and else its guard shuts.',
    remedy:
      'It ends by itself an hour later when every machine has an agent, and each has told that it has nothing which the table lacks. Or an operator makes sure that nothing uses ports that this table would give away, and says so: `POST /v1/server/confirm-epoch`. `GET /v1/server/epoch` tells why. Once it is confirmed it takes no longer than the `fence_s` of a machine that does not come back; one that is known to be down may be declared `lost`.',
    detail: (e) =>
      e.isConfirmed
        ? `epoch ${e.epoch} is confirmed, and the guard of a machine may be open for what the table lost`
        : `epoch ${e.epoch} is in doubt: see GET /v1/server/epoch`,
    passing: true,
  },
  epoch_superseded: {
    status: 409,
    title: 'The table is in another epoch',
    cause: 'The epoch of the request is over, or never was: another one has begun since it was looked at.',
    remedy: 'Read `GET /v1/server/epoch` and decide about that one.',
    detail: (e) => `the table is in epoch ${e.current}, not in ${e.epoch}`,
  },
  token_not_found: {
    status: 404,
    title: 'No such token',
    cause: 'No access token has this id.',
    remedy: 'List the tokens (`GET /v1/tokens`).',
    detail: (e) => `there is no token-${e.token}`,
  },
  token_not_live: {
    status: 409,
    title: 'The token is over',
    cause: 'An access token that expired or was revoked cannot be changed, rotated or brought back.',
    remedy: 'Make a new one (`POST /v1/tokens`).',
    detail: (e) => `token-${e.token} ${e.state === 'expired' ? 'has expired' : 'was revoked'}`,
  },
  token_expiry_past: {
    status: 422,
    title: 'The expiry is in the past',
    cause: 'The token would be over before it is made.',
    remedy: 'Name a later `expires_at`, or say how long from now with `ttl_s`. To end a token, revoke it.',
    detail: (e) => `${formatInstant(e.expiresAt)} is past: it is ${formatInstant(e.now)}`,
  },
  idempotency_key_reused: {
    status: 422,
    title: 'The key was used for another request',
    cause:
      'Another request came with this Idempotency-Key before: another operation, path, query or body. A key names one request, for as long as its answer is kept.',
    remedy: 'Use a new key for every request, and the same one only to send the very same request again.',
    detail: (e) => `${JSON.stringify(e.key)} was used for another request at ${formatInstant(e.usedAt)}`,
  },
  replay_over: {
    status: 410,
    title: 'What the request was granted is over',
    cause:
      'The request came before, under the same Idempotency-Key, and was carried out. What it was granted then has ended since; `errors` lists its state, item by item. It is not granted a second time.',
    remedy: 'Make a new request, with a new key. What is still live of the old one is yours until it is released.',
    detail: (e) => `granted to the same request before: ${e.items.slice(0, items_shown_max).map(stateOf).join(', ')}`,
  },
  secret_shown_once: {
    status: 409,
    title: 'The secret was shown before',
    cause:
      'The request came before, under the same Idempotency-Key, and the token was made or rotated. Its secret was in that answer; only a hash of it is stored, so it cannot be shown again.',
    remedy:
      'If that answer was lost, rotate the token (`POST /v1/tokens/{id}/rotate`) under a new key, or revoke it (`DELETE /v1/tokens/{id}`).',
    detail: (e) => `the same request gave token-${e.token} its secret before, which is not stored`,
  },
};

const items_shown_max = 5;
type ItemState = LeaseErrorOf['replay_over']['items'][number];
export const stateOf = ({ item, state, ending }: ItemState): string =>
  `${item} is ${state}${ending === null ? '' : ` (${ending})`}`;
