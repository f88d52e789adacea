import { familyOf, type Address, type Family } from '../../net/address.ts';
import type { Families } from './families.ts';
import type { Ruleset } from './ruleset.ts';
import type { ElementsBySet } from './sets.ts';

/**
 * What the agent looks after on its host, as values: how it is (`HostState`), how it should be (`DesiredHost`), what was
 * there before the agent came (`Recorded`), and the steps between them. Rules and routes are in the words of `ip`, with
 * the family in front, so that a log line can be typed again: `-4 priority 10 fwmark 0x2a/0xff lookup 100`.
 */

/** Whether the agent put it there (rules and routes carry a protocol number of its own) or somebody else. */
export type Origin = 'ours' | 'foreign';

/**
 * The steering program on one device: as it should be; `stale`, another version or for another TUN device; `lost`,
 * detached by somebody; or there is no such device now.
 */
export type SteeringState = 'current' | 'stale' | 'lost' | 'no-device';

export type HostState = Readonly<{
  /** By path below /proc/sys, `net/ipv4/tcp_early_demux`; absent where this host has no such file. */
  sysctls: ReadonlyMap<string, string>;
  /** By those. */
  families: Families;
  /**
   * The text that was loaded into table `inet fishery`, if the kernel still shows exactly what it showed then; `unknown`
   * for a table that is anything else (another agent's, or somebody changed it), `absent` for none.
   */
  ruleset: Readonly<{ is: 'loaded'; text: string } | { is: 'unknown' | 'absent' }>;
  /** Elements of the lease sets. */
  elements: ElementsBySet;
  /** For how many milliseconds the guard stays open; 0: it is shut; Infinity: somebody made it stay open for good. */
  guardMs: number;
  tun: 'absent' | 'down' | 'up';
  /** How many packets the TUN device holds while nobody reads them; 0 when it is absent. */
  tunQueue: number;
  /** Devices that have the steering program, had it, or are not there to have it. */
  steering: ReadonlyMap<string, SteeringState>;
  routes: ReadonlyMap<string, Origin>;
  rules: ReadonlyMap<string, Origin>;
  /** On `lo`, whoever put them there. */
  addresses: ReadonlySet<Address>;
  /** On every other interface. */
  linkAddresses: ReadonlySet<Address>;
  /** Somebody else has source NAT on this host. */
  othersTranslate: boolean;
}>;

/**
 * One sysctl. `mend` says what it should be, given what it is: most have one right value, some only need to be wide
 * enough. Mending what is mended changes nothing.
 */
export type Wish = Readonly<{
  key: string;
  mend: (now: string, others: ReadonlyMap<string, string>) => string;
  /** What comes of it when it cannot be set, for people. */
  without: string;
  /** Without it fish would not work at all. */
  stopsFish?: boolean;
  /** Keys that must have been set before, if they were to be set. */
  after?: readonly string[];
  /** Other keys that `mend` looks at. */
  reads?: readonly string[];
  /** The file comes and goes with the TUN device, so it can be written only after it, and need not be restored. */
  ofTun?: boolean;
  /** Left as it is on a TUN device that was there before the agent: putting it back would leave traces. */
  ofOwnTun?: boolean;
}>;

export type DesiredHost = Readonly<{
  sysctls: readonly Wish[];
  ruleset: Ruleset | null;
  elements: ElementsBySet;
  /** Name of the TUN device, null for none. */
  tun: string | null;
  /** Devices at whose ingress the steering program should be. */
  steering: ReadonlySet<string>;
  routes: ReadonlySet<string>;
  rules: ReadonlySet<string>;
  addresses: ReadonlySet<Address>;
}>;

/**
 * What the agent changed and how it was before: written down, and on disk, before the change. It survives the agent, so
 * that `fishery agent down` restores the host after a crash, too.
 */
export type Recorded = Readonly<{
  /** Values before the agent's first change, or as others have set them since. */
  sysctls: ReadonlyMap<string, string>;
  /** What the agent has set them to; absent where an earlier version did not write that down. */
  written: ReadonlyMap<string, string>;
  /** Addresses that the agent added to `lo`; what stood there before it came is not its to take away. */
  addresses: ReadonlySet<Address>;
  /** Name of the TUN device that the agent made. */
  tun: string | null;
  /** How a TUN device was that somebody else had made. */
  tunBefore: TunBefore | null;
  /** Rules of somebody else's (the kernel's own `lookup local`) that the agent took away. */
  rules: ReadonlySet<string>;
}>;

export type TunBefore = Readonly<{ name: string; isUp: boolean; queue: number }>;

export const nothingRecorded: Recorded = {
  sysctls: new Map(),
  written: new Map(),
  addresses: new Set(),
  tun: null,
  tunBefore: null,
  rules: new Set(),
};

/** Part of a record: what comes to it, or leaves it. */
export type RecordPart = Readonly<{
  sysctls: readonly (readonly [key: string, before: string])[];
  /** To be forgotten with the sysctls. */
  written: readonly (readonly [key: string, value: string])[];
  addresses: readonly Address[];
  tun: string | null;
  tunBefore: TunBefore | null;
  rules: readonly string[];
}>;

/** One change of the host. Each is idempotent enough to be tried again after a failure half-way. */
export type Step = Readonly<
  | { do: 'record' | 'forget'; part: RecordPart }
  | { do: 'set-sysctl'; key: string; value: string }
  | { do: 'load-ruleset'; ruleset: Ruleset }
  | { do: 'remove-table' }
  | { do: 'add-elements' | 'remove-elements'; set: string; keys: readonly string[] }
  | { do: 'make-tun' | 'remove-tun'; name: string }
  | { do: 'link-up' | 'link-down'; name: string }
  | { do: 'set-queue'; name: string; packets: number }
  | { do: 'attach-steering' | 'detach-steering'; device: string }
  | { do: 'add-route' | 'remove-route'; route: string }
  | { do: 'add-rule' | 'remove-rule'; rule: string }
  | { do: 'add-address' | 'remove-address'; address: Address }
>;

/** What others may change of it, as repairs are counted. */
export const driftKinds = [
  'table',
  'element',
  'guard',
  'rule',
  'route',
  'address',
  'link',
  'steering',
  'sysctl',
  'socket',
] as const;
export type DriftKind = (typeof driftKinds)[number];

/** What a repair puts right, and how many things of it. */
export function driftOf(step: Step): Readonly<{ kind: DriftKind; count: number }> | undefined {
  switch (step.do) {
    case 'record':
    case 'forget':
      return undefined;
    case 'load-ruleset':
    case 'remove-table':
      return { kind: 'table', count: 1 };
    case 'add-elements':
    case 'remove-elements':
      return { kind: 'element', count: step.keys.length };
    case 'make-tun':
    case 'remove-tun':
    case 'link-up':
    case 'link-down':
    case 'set-queue':
      return { kind: 'link', count: 1 };
    case 'attach-steering':
    case 'detach-steering':
      return { kind: 'steering', count: 1 };
    case 'add-route':
    case 'remove-route':
      return { kind: 'route', count: 1 };
    case 'add-rule':
    case 'remove-rule':
      return { kind: 'rule', count: 1 };
    case 'add-address':
    case 'remove-address':
      return { kind: 'address', count: 1 };
    case 'set-sysctl':
      return { kind: 'sysctl', count: 1 };
  }
}

export const familyFlag = (family: Family): string => `-${family}`;
export const flaggedFamily = (text: string): Family => (text.startsWith('-6 ') ? 6 : 4);

/** Whether a step is about IPv6 alone: its routes, rules and addresses. */
export function isOfIpv6(step: Step): boolean {
  if ('route' in step) return flaggedFamily(step.route) === 6;
  if ('rule' in step) return flaggedFamily(step.rule) === 6;
  return 'address' in step && familyOf(step.address) === 6;
}

/** A rule through which every packet finds the host's own addresses. */
export const isLocalRule = (rule: string): boolean => /^-[46] priority \d+ lookup local$/.test(rule);

/** With which every host begins. */
export const kernelsLocalRule = (family: Family): string => `${familyFlag(family)} priority 0 lookup local`;

/** What the log, the tests and a person on call read: one line per step, in the words of the command that does it. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case 'record':
    case 'forget':
      return `${step.do} ${[
        ...step.part.sysctls.map(([key, before]) => `${key} was "${before}"`),
        ...step.part.written
          .filter(([key]) => !step.part.sysctls.some(([other]) => other === key))
          .map(([key, value]) => `${key} is set to "${value}"`),
        ...(step.part.tun === null ? [] : [`tun ${step.part.tun} is ours`]),
        ...(step.part.tunBefore === null ? [] : [describeTun(step.part.tunBefore)]),
        ...step.part.rules.map((rule) => `rule ${rule} was there`),
        ...step.part.addresses.map((address) => `${address} is ours`),
      ].join('; ')}`;
    case 'set-sysctl':
      return `sysctl ${step.key} = ${step.value}`;
    case 'load-ruleset':
      return `nft load table inet fishery with sets: ${step.ruleset.sets.join(' ') || 'none'}`;
    case 'remove-table':
      return 'nft delete table inet fishery';
    case 'add-elements':
    case 'remove-elements':
      return `nft ${step.do === 'add-elements' ? 'add' : 'delete'} element ${step.set} { ${shortList(step.keys)} }`;
    case 'make-tun':
      return `tun add ${step.name}`;
    case 'remove-tun':
      return `tun del ${step.name}`;
    case 'link-up':
      return `ip link set ${step.name} up`;
    case 'link-down':
      return `ip link set ${step.name} down`;
    case 'set-queue':
      return `ip link set ${step.name} txqueuelen ${step.packets}`;
    case 'attach-steering':
    case 'detach-steering':
      return `tcx ingress ${step.device}: ${step.do === 'attach-steering' ? 'attach' : 'detach'} fishery steering`;
    case 'add-route':
    case 'remove-route':
      return ipLine('route', step.do === 'add-route', step.route);
    case 'add-rule':
    case 'remove-rule':
      return ipLine('rule', step.do === 'add-rule', step.rule);
    case 'add-address':
      return `ip addr add ${step.address} dev lo`;
    case 'remove-address':
      return `ip addr del ${step.address} dev lo`;
  }
}

const describeTun = ({ name, isUp, queue }: TunBefore): string =>
  `tun ${name} was there, ${isUp ? 'up' : 'down'}, with txqueuelen ${queue}`;

/** A table made anew may get ten thousand; a log line is for people. */
const keysShown_max = 20;
const shortList = (keys: readonly string[]): string =>
  keys.length <= keysShown_max
    ? keys.join(', ')
    : `${keys.slice(0, keysShown_max).join(', ')} and ${keys.length - keysShown_max} more`;

const ipLine = (object: string, add: boolean, text: string): string =>
  `ip ${text.slice(0, 2)} ${object} ${add ? 'add' : 'del'} ${text.slice(3)}`;
