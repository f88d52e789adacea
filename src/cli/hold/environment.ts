import { formatPorts } from '../../net/ports.ts';
import type { Lease } from '../../wire/leases.ts';

/**
 * What the held program finds in its environment. The first lease stands there without a number; when there are several,
 * every one also stands there with its own: FISHERY_ADDRESS_1, FISHERY_ADDRESS_2 …, in the order of the claims.
 */
export function leaseVariables(session: string, leases: readonly Lease[]): Readonly<Record<string, string>> {
  const numbered = leases.length > 1 ? leases.map((lease, index) => variables(lease, `_${index + 1}`)) : [];
  const [first] = leases;
  return Object.assign({ FISHERY_SESSION: session }, first ? variables(first, '') : {}, ...numbered) as Record<
    string,
    string
  >;
}

/** What `leaseVariables` and `descriptorVariables` make, of whatever hold. */
const handedDown =
  /^(FISHERY_(SESSION|(LEASE|ADDRESS|PROTOCOL|PORTS|PORT_FIRST|PORT_LAST)(_\d+)?)|LISTEN_(FDS|PID|FDNAMES))$/;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The environment without what an outer hold handed to its program: that is about that program's leases. It is neither a
 * setting of anything that the program runs (FISHERY_PORTS is spelled like one of `fishery hold`), nor is it handed on.
 * Only within a hold, which is what FISHERY_SESSION tells: elsewhere FISHERY_PORTS is a setting.
 */
export function withoutHandedDown(env: Environment): Environment {
  if (env['FISHERY_SESSION'] === undefined) return env;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !handedDown.test(name)));
}

/** As sd_listen_fds(3) reads them, but for LISTEN_PID, which only the program's own process can know. */
export const descriptorVariables = (names: readonly string[]): Readonly<Record<string, string>> => ({
  LISTEN_FDS: `${names.length}`,
  LISTEN_FDNAMES: names.join(':'),
});

const variables = (lease: Lease, suffix: string): Readonly<Record<string, string>> => ({
  [`FISHERY_LEASE${suffix}`]: lease.id,
  [`FISHERY_ADDRESS${suffix}`]: lease.address,
  [`FISHERY_PROTOCOL${suffix}`]: lease.protocol,
  [`FISHERY_PORTS${suffix}`]: formatPorts(lease.ports),
  [`FISHERY_PORT_FIRST${suffix}`]: `${lease.ports.first}`,
  [`FISHERY_PORT_LAST${suffix}`]: `${lease.ports.last}`,
});
