import type { Address } from '../../net/address.ts';
import {
  flaggedFamily,
  isLocalRule,
  kernelsLocalRule,
  type DesiredHost,
  type HostState,
  type Recorded,
  type RecordPart,
  type Step,
  type TunBefore,
  type Wish,
} from './host-state.ts';
import { notWanted, recordOfChanges, sameValue, toPutBack, type SysctlChange } from './sysctl-records.ts';

/**
 * The steps from the host as it is to the host as it should be: only what differs, in an order in which every moment is
 * safe. The order is the list in `plan`; read it from the top.
 *
 * At no moment between two steps is the local table out of reach, or a pool's address on the host without the guard.
 */
export function plan(observed: HostState, desired: DesiredHost, recorded: Recorded): Step[] {
  const leavingAddresses = sorted([...recorded.addresses].filter((each) => !desired.addresses.has(each)));
  const arrivingAddresses = sorted([...desired.addresses].filter((each) => !observed.addresses.has(each)));
  const rules = ruleChanges(observed, desired);
  const arrivingRoutes = [...desired.routes].filter((route) => !observed.routes.has(route));
  const leavingRoutes = ours(observed.routes).filter((route) => !desired.routes.has(route));
  // Somebody else's device stays, and is to be again as it was.
  const isForeignTun = observed.tun !== 'absent' && recorded.tun !== desired.tun;
  const wishes = desired.sysctls.filter(({ ofOwnTun }) => !(ofOwnTun && isForeignTun));
  const sysctls = sysctlChanges(observed, wishes);
  const { tunBefore } = recorded;
  const leavingForeign = tunBefore !== null && tunBefore.name !== desired.tun ? tunBefore : null;
  const makeTun = desired.tun !== null && observed.tun === 'absent';
  const steered = [...desired.steering].filter((device) => needsSteering(observed, device, makeTun)).sort();
  const unsteered = [...observed.steering]
    .flatMap(([device, state]) => (state === 'no-device' || desired.steering.has(device) ? [] : [device]))
    .sort();
  const reload = desired.ruleset !== null && !isLoaded(observed, desired.ruleset.text) ? desired.ruleset : null;
  const leavingTun = recorded.tun !== null && recorded.tun !== desired.tun ? recorded.tun : null;
  const unwanted = notWanted(desired.sysctls, recorded);

  const record: RecordPart = {
    ...recordOfChanges(
      sysctls.filter(({ wish }) => !wish.ofTun || isForeignTun),
      observed,
      recorded,
    ),
    addresses: arrivingAddresses.filter((each) => !recorded.addresses.has(each)),
    tun: makeTun && recorded.tun !== desired.tun ? desired.tun : null,
    tunBefore:
      desired.tun !== null && isForeignTun && tunBefore === null
        ? { name: desired.tun, isUp: observed.tun === 'up', queue: observed.tunQueue }
        : null,
    rules: rules.leaving.filter((rule) => observed.rules.get(rule) === 'foreign' && !recorded.rules.has(rule)),
  };
  const forget: RecordPart = {
    sysctls: unwanted,
    written: [],
    addresses: leavingAddresses,
    tun: leavingTun,
    tunBefore: leavingForeign,
    rules: sorted([...recorded.rules].filter((rule) => desired.rules.has(rule))),
  };

  return [
    // Nothing is changed before how it was is on disk.
    ...whenAny('record', record),
    // A prefix may leave the guard below, so the addresses in it go first.
    ...leavingAddresses
      .filter((address) => observed.addresses.has(address))
      .map((address): Step => ({ do: 'remove-address', address })),
    // What sends packets to the TUN goes before the TUN; the local table is not touched yet.
    ...removeRules(rules.leaving.filter((rule) => !isLocalRule(rule))),
    // The guard stands, and is shut, before the first address of a pool is on the host, and before anything that may fail.
    ...(reload ? [{ do: 'load-ruleset', ruleset: reload } as const] : []),
    ...elementChanges(observed, desired),
    ...sysctls.filter(({ wish }) => !wish.ofTun).map(({ wish, value }) => setSysctl(wish.key, value)),
    ...(makeTun ? [{ do: 'make-tun', name: desired.tun } as const] : []),
    ...sysctls.filter(({ wish }) => wish.ofTun).map(({ wish, value }) => setSysctl(wish.key, value)),
    ...(desired.tun !== null && observed.tun !== 'up' ? [{ do: 'link-up', name: desired.tun } as const] : []),
    ...arrivingRoutes.map((route): Step => ({ do: 'add-route', route })),
    // Before early demux is switched on again further down: without either, replies would meet their placeholders.
    ...steered.map((device): Step => ({ do: 'attach-steering', device })),
    // The local table is reached by its new rule before its old one goes, in both directions.
    ...addRules(rules.arriving.filter(isLocalRule)),
    ...addRules(rules.arriving.filter((rule) => !isLocalRule(rule))),
    ...removeRules(rules.leaving.filter(isLocalRule)),
    ...leavingRoutes.map((route): Step => ({ do: 'remove-route', route })),
    // Early demux is off by now, where nftables is to steer.
    ...unsteered.map((device): Step => ({ do: 'detach-steering', device })),
    ...(leavingTun !== null ? [{ do: 'remove-tun', name: leavingTun } as const] : []),
    ...(desired.ruleset === null && observed.ruleset.is !== 'absent' ? [{ do: 'remove-table' } as const] : []),
    // Down before its sysctls: a device that is up gets an IPv6 address of its own by one of them.
    ...(leavingForeign !== null ? restoreTun(leavingForeign, observed) : []),
    ...toPutBack(unwanted, observed, recorded).map(([key, before]) => setSysctl(key, before)),
    // Everything that an address leans on is there.
    ...arrivingAddresses.map((address): Step => ({ do: 'add-address', address })),
    ...whenAny('forget', forget),
  ];
}

/** The way back: the host as it was before the agent came. */
export function planDown(observed: HostState, recorded: Recorded): Step[] {
  return plan(observed, bareHost(recorded), recorded);
}

/** Without anything of the agent's, and with the rules that it took away. */
export const bareHost = (recorded: Recorded): DesiredHost => ({
  sysctls: [],
  ruleset: null,
  elements: new Map(),
  tun: null,
  steering: new Set(),
  routes: new Set(),
  rules: recorded.rules,
  addresses: new Set(),
});

/** A file that does not exist is passed over: a client interface that is not there yet, a TUN that is made further down. */
function sysctlChanges(observed: HostState, wishes: readonly Wish[]): readonly SysctlChange[] {
  return wishes.flatMap((wish): readonly SysctlChange[] => {
    const now = observed.sysctls.get(wish.key);
    if (now === undefined && !(wish.ofTun && observed.tun === 'absent')) return [];
    const value = wish.mend(now ?? '', observed.sysctls);
    return sameValue(now ?? '', value) ? [] : [{ wish, now, value }];
  });
}

function ruleChanges(
  observed: HostState,
  desired: DesiredHost,
): Readonly<{ arriving: readonly string[]; leaving: readonly string[] }> {
  const wanted = [...desired.rules];
  // A packet for fish has the host's own address as destination: whoever looks that up before the mark takes it away.
  const first = (family: number): number =>
    Math.min(...wanted.filter((rule) => flaggedFamily(rule) === family).map(priorityOf));
  const stands = (rule: string): boolean =>
    isLocalRule(rule) && !desired.rules.has(rule) && priorityOf(rule) < first(flaggedFamily(rule));
  const movesLocal = (rule: string): boolean =>
    wanted.some((other) => isLocalRule(other) && flaggedFamily(other) === flaggedFamily(rule));
  const arriving = wanted.filter((rule) => !observed.rules.has(rule));
  const leaving = [...observed.rules].flatMap(([rule, origin]) =>
    (origin === 'ours' && !desired.rules.has(rule)) || (stands(rule) && movesLocal(rule)) ? [rule] : [],
  );
  return { arriving: sorted([...arriving, ...lastLocal(observed, arriving, leaving)]), leaving: sorted(leaving) };
}

/** Whatever was recorded: a host whose last way to its local table goes is cut off, so the kernel's own comes back first. */
function lastLocal(observed: HostState, arriving: readonly string[], leaving: readonly string[]): readonly string[] {
  const families = new Set(leaving.filter(isLocalRule).map(flaggedFamily));
  const staying = [...observed.rules.keys()].filter((rule) => !leaving.includes(rule));
  return [...families]
    .filter((family) => ![...staying, ...arriving].some((rule) => isLocalRule(rule) && flaggedFamily(rule) === family))
    .map(kernelsLocalRule);
}

/** A device that is not there has nothing attached, and gets it when it comes. */
const needsSteering = ({ steering }: HostState, device: string, isTunNew: boolean): boolean =>
  steering.get(device) !== 'no-device' && (isTunNew || steering.get(device) !== 'current');

const priorityOf = (rule: string): number => Number(/ priority (\d+)/.exec(rule)?.[1] ?? Infinity);

function elementChanges(observed: HostState, desired: DesiredHost): Step[] {
  if (desired.ruleset === null) return [];
  // A set that is not in the ruleset goes with the load; a set that is new is empty.
  return [...new Set([...desired.ruleset.sets, ...desired.elements.keys()])].sort().flatMap((set): Step[] => {
    const is = observed.elements.get(set) ?? new Set();
    const should = desired.elements.get(set) ?? new Set();
    const gone = sorted([...is].filter((key) => !should.has(key)));
    const missing = sorted([...should].filter((key) => !is.has(key)));
    return [
      ...(gone.length > 0 ? [{ do: 'remove-elements', set, keys: gone } as const] : []),
      ...(missing.length > 0 ? [{ do: 'add-elements', set, keys: missing } as const] : []),
    ];
  });
}

const isLoaded = (observed: HostState, text: string): boolean =>
  observed.ruleset.is === 'loaded' && observed.ruleset.text === text;

/** As it was before the agent came; one that is gone by now is not ours to make. */
function restoreTun({ name, isUp, queue }: TunBefore, observed: HostState): Step[] {
  if (observed.tun === 'absent') return [];
  return [
    ...(observed.tunQueue === queue ? [] : [{ do: 'set-queue', name, packets: queue } as const]),
    ...(observed.tun === 'up' && !isUp ? [{ do: 'link-down', name } as const] : []),
  ];
}

const ours = (entries: HostState['rules']): readonly string[] =>
  sorted([...entries].flatMap(([text, origin]) => (origin === 'ours' ? [text] : [])));

const sorted = <T extends string | Address>(items: readonly T[]): readonly T[] => [...items].sort();
const setSysctl = (key: string, value: string): Step => ({ do: 'set-sysctl', key, value });
const addRules = (rules: readonly string[]): Step[] => rules.map((rule) => ({ do: 'add-rule', rule }));
const removeRules = (rules: readonly string[]): Step[] => rules.map((rule) => ({ do: 'remove-rule', rule }));

function whenAny(what: 'record' | 'forget', part: RecordPart): Step[] {
  const any =
    [part.sysctls, part.written, part.addresses, part.rules].some((each) => each.length > 0) ||
    part.tun !== null ||
    part.tunBefore !== null;
  return any ? [{ do: what, part }] : [];
}
