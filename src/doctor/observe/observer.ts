import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { desiredHost } from '../../agent/host/desired-host.ts';
import { nothingRecorded } from '../../agent/host/host-state.ts';
import { runTool } from '../../agent/linux/commands.ts';
import { readSysctl } from '../../agent/linux/sysctl.ts';
import { portsOfClaim } from '../../agent/fish/fish-claims.ts';
import { hostSettings, type AgentSettings } from '../../agent/settings/settings.ts';
import { chooseSteering } from '../../agent/steering/choose.ts';
import { kernelCalls } from '../../agent/steering/kernel-calls.ts';
import { socketName } from '../../agent/status/status-server.ts';
import { parseAddress } from '../../net/address.ts';
import { formatPorts, parsePorts } from '../../net/ports.ts';
import { hostPrefix, parsePrefix, type Prefix } from '../../net/prefix.ts';
import { err, ok, type Result } from '../../net/result.ts';
import { readSecretFile } from '../../ops/settings.ts';
import { FisheryClient, tlsFilesOf } from '../../sdk/index.ts';
import type { FactName, Facts, Observed, Scope, Setup, SliceFact } from '../facts.ts';
import { ourSet, type NftFacts } from '../nft-json.ts';
import { prefixOf } from '../nft-rules.ts';
import { readConntrack } from './conntrack.ts';
import {
  cgroup2In,
  readBroker,
  readCapabilities,
  readClock,
  readFileFact,
  readKeepers,
  readLimits,
  readMemory,
  readOptional,
  trySysctl,
  tryTunDevice,
  usersIn,
} from './host.ts';
import { readAdvertisedRoutes, readIngressFilters, readLinks, readRoutesOf, readRules } from './ip.ts';
import { readNft, tryRuleset, tryTproxy } from './nft.ts';
import { readAgentProcesses, readServices } from './processes.ts';
import { readAgent, readServer, type ServerAnswer } from './remote.ts';
import { readTerminator, tryTransparentSocket } from './terminator.ts';
import { canDestroySockets, readPacketSockets, readSockets } from './sockets.ts';

const runDir = '/run/fishery';
const request_timeout_ms = 5_000;
/** What the agent takes when the settings say nothing. */
const flow_placeholders_default = 16_384;

export type ObserverOptions = Readonly<{
  settings: AgentSettings;
  machine: string;
  /** From the command line: they count beside what server and agent say. */
  slices: readonly SliceFact[];
}>;

/** Reads facts of the network namespace that this process is in; each at most once, and only those that are asked for. */
export class Observer {
  readonly #options: ObserverOptions;
  readonly #known = new Map<FactName, Promise<unknown>>();
  #answer: Promise<ServerAnswer> | undefined;

  constructor(options: ObserverOptions) {
    this.#options = options;
  }

  /** Those facts, each with why it is out of sight where it is. */
  async observe(names: ReadonlySet<FactName>): Promise<Partial<Observed>> {
    const seen = await Promise.all(
      [...names].map(async (name): Promise<readonly [FactName, Result<unknown, string>]> => {
        try {
          return [name, ok(await this.#fact(name))];
        } catch (error) {
          return [name, err(error instanceof Error ? error.message : String(error))];
        }
      }),
    );
    // Each name with the value of its own reader: see #fact.
    return Object.fromEntries(seen);
  }

  #fact<K extends FactName>(name: K): Promise<Facts[K]> {
    const known = this.#known.get(name) ?? Promise.resolve().then(() => this.#readers[name]());
    this.#known.set(name, known);
    return known as Promise<Facts[K]>;
  }

  readonly #readers: Readonly<{ [K in FactName]: () => Promise<Facts[K]> | Facts[K] }> = {
    setup: () => this.#setup(),
    scope: () => this.#scope(),
    sysctls: () => this.#sysctls(),
    sysctlRefusal: trySysctl,
    rules: readRules,
    routes: async () => readRoutesOf((await this.#fact('setup')).host.routeTable),
    advertisedRoutes: readAdvertisedRoutes,
    links: readLinks,
    ingressFilters: async () => {
      const { uplinks, clientInterfaces } = (await this.#fact('setup')).host;
      return readIngressFilters([...new Set([...uplinks, ...clientInterfaces])]);
    },
    nft: readNft,
    rulesetRefusal: tryRuleset,
    tproxyRefusal: tryTproxy,
    transparentSocket: tryTransparentSocket,
    terminateRoutes: async () => {
      const { terminate } = (await this.#fact('setup')).host;
      return terminate === null ? new Map() : readRoutesOf(terminate.routeTable);
    },
    terminator: readTerminator,
    conntrack: readConntrack,
    sockets: async () => {
      const names = new Map((await readLinks()).map(({ index, name }) => [index, name]));
      return readSockets((await this.#fact('scope')).slices, names);
    },
    packetSockets: readPacketSockets,
    limits: async () => readLimits((await this.#fact('agent')).status?.pid),
    memory: readMemory,
    steering: () => this.#steering(),
    kernel: release,
    tools: async () => ({ ip: await toolProblem('ip', '-V'), nft: await toolProblem('nft', '--version') }),
    capabilities: readCapabilities,
    tunDevice: tryTunDevice,
    canDestroySockets,
    cgroup2: () => cgroup2In(readFileSync('/proc/self/mountinfo', 'utf8')),
    clock: () => readClock(this.#options.settings.state_dir),
    files: () => ({
      stateDir: readFileFact(this.#options.settings.state_dir),
      tokenFile: readFileFact(this.#options.settings.token_file),
      runDir: readFileFact(runDir),
    }),
    broker: () => readBroker(this.#options.settings.broker, this.#options.settings.state_dir),
    missingCgroups: async () => {
      const mount = await this.#fact('cgroup2');
      const { holders } = await this.#fact('scope');
      const known = holders.flatMap(({ name, cgroup }) => (cgroup === null ? [] : [{ holder: name, cgroup }]));
      // Without the hierarchy nobody is known by it, which cgroup2 says.
      return mount === null ? [] : known.filter(({ cgroup }) => readFileFact(join(mount, cgroup)) === null);
    },
    nftablesConf: () => readOptional('/etc/nftables.conf'),
    users: () => usersIn(readFileSync('/etc/passwd', 'utf8')),
    agent: () => readAgent(join(this.#options.settings.state_dir, socketName)),
    agentProcesses: readAgentProcesses,
    keepers: () => readKeepers(),
    services: async () => {
      const { status } = await this.#fact('agent');
      return readServices(status === null ? [] : [status.pid, ...status.keepers.map(({ pid }) => pid)]);
    },
    server: async () => (await this.#server()).facts,
  };

  async #setup(): Promise<Setup> {
    const { settings, machine } = this.#options;
    const { fish, terminate } = settings;
    // Nothing was said of this host yet: then all that fish would need is worth knowing.
    const isUndecided = fish === undefined && settings.uplinks.length === 0;
    const { status } = await this.#fact('agent');
    const { chosen } = await this.#fact('steering');
    const host = hostSettings(settings, (status?.steering ?? chosen)?.mode);
    const exclusive = (fish?.claims ?? []).reduce(
      (sum, claim) => sum + (claim.mode === 'exclusive' || claim.protocol !== 'tcp' ? portsOfClaim(claim) : 0),
      0,
    );
    return {
      host: { ...host, fish: host.fish || (isUndecided && status === null) },
      machine,
      stateDir: settings.state_dir,
      tokenFile: settings.token_file,
      serverUrl: settings.server,
      claimants: [
        ...(fish?.enabled ? [{ holder: fish.holder, kind: 'fish' as const }] : []),
        ...(terminate?.enabled ? [{ holder: terminate.holder, kind: 'terminator' as const }] : []),
      ],
      connections_max: terminate?.enabled ? terminate.connections_max : null,
      wanted: fish?.enabled ? { exclusivePorts: exclusive, flowPlaceholders: fish.placeholders_max } : null,
      placeholders: fish?.enabled ? exclusive + (fish.placeholders_max ?? flow_placeholders_default) : 0,
    };
  }

  #steering(): Facts['steering'] {
    const { steering: setting, uplinks, client_interfaces } = this.#options.settings;
    const chosen = chooseSteering(setting, [...new Set([...uplinks, ...client_interfaces])], kernelCalls);
    return chosen.ok
      ? { setting, chosen: chosen.value, problem: null }
      : { setting, chosen: null, problem: chosen.error };
  }

  #server(): Promise<ServerAnswer> {
    const { settings, machine } = this.#options;
    return (this.#answer ??= readServer(clientFor(settings), settings.server, machine));
  }

  async #scope(): Promise<Scope> {
    const { desired } = await this.#server();
    const { status } = await this.#fact('agent');
    // Without nft the rest is still worth looking at.
    const guarded = await this.#fact('nft').then(guardedPrefixes, () => []);
    const told = this.#options.slices;
    const heard = desired ? desired.slices.flatMap(sliceOf) : parseSlices(status?.slice_blocks ?? []);
    const slices = [
      ...new Map([...heard, ...told].map((slice) => [`${slice.address} ${formatPorts(slice.ports)}`, slice])).values(),
    ];
    const pools = (desired?.pools ?? []).flatMap(({ prefixes }) => prefixes);
    const prefixes = new Set<Prefix>([
      ...pools.flatMap((text) => {
        const parsed = parsePrefix(text);
        return parsed.ok ? [parsed.value] : [];
      }),
      ...guarded,
    ]);
    for (const { address } of slices) if (pools.length === 0 && guarded.length === 0) prefixes.add(hostPrefix(address));
    return {
      from: desired ? 'the server' : status ? 'the agent' : told.length > 0 ? '--slices' : 'nothing',
      prefixes: [...prefixes],
      slices,
      ownSlices: (desired?.slices ?? []).filter(({ allocator }) => allocator === 'machine').length,
      leases: (desired?.leases ?? []).flatMap(({ id, holder, protocol, ports, mode, binding, address }) => {
        const parsed = parseAddress(address);
        return parsed.ok ? [{ id, holder, address: parsed.value, protocol, ports, mode, binding }] : [];
      }),
      holders: (desired?.holders ?? []).map((holder) => ({
        name: holder.name,
        kind: holder.kind,
        uid: holder.uid,
        cgroup: holder.cgroup,
      })),
    };
  }

  async #sysctls(): Promise<ReadonlyMap<string, string>> {
    const { host } = await this.#fact('setup');
    const none = { prefixes: [], addresses: [], hostAddresses: [], classes: [], elements: new Map() };
    const { sysctls } = desiredHost(host, { families: [4, 6], ...none }, nothingRecorded);
    const ofDevices = ['all', host.tun, ...host.uplinks, ...host.clientInterfaces].flatMap((name) => [
      `net/ipv4/conf/${name}/rp_filter`,
      `net/ipv4/conf/${name}/ignore_routes_with_linkdown`,
      `net/ipv6/conf/${name}/ignore_routes_with_linkdown`,
      `net/ipv6/conf/${name}/accept_ra`,
      `net/ipv6/conf/${name}/forwarding`,
      `net/ipv6/conf/${name}/disable_ipv6`,
    ]);
    const keys = [
      ...sysctls.flatMap(({ key, reads }) => [key, ...(reads ?? [])]),
      ...ofDevices,
      ...['ip_local_port_range', 'ip_local_reserved_ports', 'tcp_fastopen_blackhole_timeout_sec'].map(ipv4),
      ...['tcp_tw_reuse', 'tcp_timestamps'].map(ipv4),
    ];
    return new Map(
      [...new Set(keys)].flatMap((key) => {
        const value = readSysctl(key);
        return value === undefined ? [] : [[key, value] as const];
      }),
    );
  }
}

const ipv4 = (name: string): string => `net/ipv4/${name}`;

/** A client that asks once; or, as text, why there is none. */
function clientFor(settings: AgentSettings): FisheryClient | string {
  const token = readSecretFile(settings.token_file);
  if (!token.ok) return `no token: ${token.problem}`;
  try {
    return new FisheryClient({
      url: settings.server,
      token: token.value,
      tls: tlsFilesOf(settings),
      timeoutMs: request_timeout_ms,
      attemptsMax: 1,
    });
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

async function toolProblem(tool: 'ip' | 'nft', flag: string): Promise<string | null> {
  try {
    const { code, stderr } = await runTool(tool, [flag]);
    return code === 0 ? null : `${tool} ${flag} failed: ${stderr.trim()}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function sliceOf(slice: Readonly<{ address: string; ports: SliceFact['ports'] }>): readonly SliceFact[] {
  const address = parseAddress(slice.address);
  return address.ok ? [{ address: address.value, ports: slice.ports }] : [];
}

/** `198.51.100.10:8192-10239`, `[2001:db8::10]:8192-10239`. */
export function parseSlice(text: string): Result<SliceFact, string> {
  const [, bracketed, plain, range = ''] = /^(?:\[(.+)\]|([^:]+)):([^:]+)$/.exec(text.trim()) ?? [];
  const address = parseAddress(bracketed ?? plain ?? '');
  const ports = parsePorts(range);
  return address.ok && ports.ok
    ? ok({ address: address.value, ports: ports.value })
    : err(
        `"${text}" is no slice: expected ADDRESS:FIRST-LAST, as in 198.51.100.10:8192-10239 or [2001:db8::10]:8192-10239`,
      );
}

const parseSlices = (texts: readonly string[]): readonly SliceFact[] =>
  texts.flatMap((text) => {
    const slice = parseSlice(text);
    return slice.ok ? [slice.value] : [];
  });

/** The pools that the guard knows: sets pool4 and pool6 of our own table. */
function guardedPrefixes(nft: NftFacts): readonly Prefix[] {
  return ['pool4', 'pool6'].flatMap((name) => (ourSet(nft, name) ?? []).flatMap((element) => prefixOf(element) ?? []));
}
