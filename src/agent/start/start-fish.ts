import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { defaultTimers, fishConfig, type FishConfig } from '../../fish/config.ts';
import { memorySizes } from '../../fish/forwarder.ts';
import type { PortUse } from '../../fish/ports/port-use.ts';
import { familyOf } from '../../net/address.ts';
import type { Logger } from '../../ops/logger.ts';
import type { FishPort } from '../fish/fish-port.ts';
import { startFish, type Fish } from '../fish/fish.ts';
import type { FishPlace } from '../fish/fish-place.ts';
import { askOnceCovered } from '../fish/flow-questions.ts';
import type { FishStats } from '../fish/operations.ts';
import { FlowLogKeeper } from '../flow-log/flow-log-keeper.ts';
import { FollowedLinks } from '../host/followed-links.ts';
import { KeptFlowLog } from '../flow-log/kept-flow-log.ts';
import { flowAnswerOf, flowQueryOf, flows_max } from '../fish/flow-answers.ts';
import { HostProblem } from '../host/host.ts';
import type { AgentSettings, FishSettings } from '../settings/settings.ts';
import type { SteeringMode } from '../steering/choose.ts';

/** A thread that ends so soon after its start may have ended by what it found. */
const quickDeath_ms = 10_000;
/** So many times in a row; then it begins with an empty table. */
const quickDeaths_max = 3;

type FishStart = Readonly<{
  steering: SteeringMode | undefined;
  settings: Pick<AgentSettings, 'mark' | 'state_dir'>;
  fish: FishSettings;
  placeholders_max: number;
  place: FishPlace;
  log: Pick<Logger, 'error' | 'warn' | 'info'>;
}>;

/**
 * Starts the packet path, and starts it again whenever the one before has died: on the TUN device, which the host has by then,
 * and with the flows that are kept.
 */
export class FishStarter {
  readonly #o: FishStart;
  #quickDeaths = 0;
  #kept: KeptFlowLog | undefined;
  /** What the last fish had to say when it died is being written. */
  #ending: Promise<unknown> | undefined;

  constructor(o: FishStart) {
    this.#o = o;
  }

  /** Whether there are flows to go on with: then fish may start before the server said anything. */
  hasFlows(): boolean {
    return this.#o.place.hasFlows();
  }

  /** Throws HostProblem, SysError. */
  async start(): Promise<FishPort> {
    const { settings, steering, fish, placeholders_max, place, log } = this.#o;
    if (this.#quickDeaths >= quickDeaths_max) {
      log.error(`fish died ${this.#quickDeaths} times soon after its start; it begins with an empty flow table`);
      place.discardFlows();
      this.#quickDeaths = 0;
    }
    const { fd: tunFd, vnetHeaderBytes } = place.openTun();
    const links = new FollowedLinks(fish.mss_clamp, place);
    const config = fishConfig({
      ...configOf(fish, vnetHeaderBytes, placeholders_max),
      ...links.mss,
      placeholderRepliesSkipHop: steering === 'ebpf',
    });
    if (!config.ok) throw new HostProblem(`fish: ${config.error}`);
    const kept = place.openFlows(memorySizes(config.value));
    await this.#ending;
    const keptLog = this.#keptLog();
    const startedAt = performance.now();
    const noteDeath = () => {
      const isQuick = performance.now() - startedAt < quickDeath_ms;
      this.#quickDeaths = isQuick ? this.#quickDeaths + 1 : 0;
    };
    let thread: Fish;
    try {
      thread = await startFish({ config: config.value, tunFd, mark: settings.mark, ...(kept && { kept }) });
    } catch (error) {
      noteDeath();
      throw error;
    }
    void thread.died.then(noteDeath);
    const { disbelieved } = await thread.ready;
    if (disbelieved > 0)
      log.warn(
        { placeholders: disbelieved },
        'what was kept for flows of a former fish was not what stands beside it; it is closed, and their 5-tuples are taken anew',
      );
    const keeper = keptLog && new FlowLogKeeper(keptLog, thread, log);
    void thread.died.then(() => {
      this.#ending = keeper?.end();
    });
    return portOf(thread, fish.holder, place, keeper, links);
  }

  /** Ready for another fish; null where nothing is written to disk. Throws HostProblem. */
  #keptLog(): KeptFlowLog | null {
    const { settings, fish } = this.#o;
    const { retention_s, bytes_max } = fish.flow_log;
    const folder = join(settings.state_dir, 'flows');
    try {
      // A log that is not written any more would have a gap that nobody knows of.
      if (retention_s === 0) rmSync(folder, { recursive: true, force: true });
      else this.#kept ??= new KeptFlowLog(folder, { retention_s, bytes_max }, () => Date.now() * 1_000);
      this.#kept?.begin();
      return this.#kept ?? null;
    } catch (error) {
      throw new HostProblem(`the flow log in ${folder}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

function portOf(
  thread: Fish,
  holder: string,
  place: FishPlace,
  keeper: FlowLogKeeper | null,
  links: FollowedLinks,
): FishPort {
  return {
    followLinks: () => links.follow((max) => thread.clampMss(max)),
    setBlocks: async (blocks) => {
      const { refused } = await thread.setBlocks(blocks);
      return refused.map(({ block, reason }) => ({ lease: block.lease, reason }));
    },
    fence: async () => (await thread.fence()).closed,
    drain: async (leases) => {
      await thread.drain(leases);
    },
    lostSockets: () => thread.lostSockets(),
    portUse: () => thread.portUse(),
    holder,
    startTrace: (request) => thread.startTrace(request),
    readTrace: () => thread.readTrace(),
    flows: (filter, max) => thread.flows(filter, max),
    topTalkers: (by, max) => thread.topTalkers(by, max),
    busyRemotes: (max) => thread.busyRemotes(max),
    answer: async (query) => {
      const asked = flowQueryOf(query);
      const answer = await askOnceCovered(async () => {
        const inMemory = await thread.queryFlowLog(asked, flows_max);
        return keeper ? keeper.complete(asked, inMemory, flows_max) : inMemory;
      }, asked.at);
      return flowAnswerOf(query, answer, holder);
    },
    stats: async () => {
      const [stats, use] = await Promise.all([thread.stats(), thread.portUse()]);
      return { ...flatStats(stats), ...protocolStats(use, stats.blocks), ...keeper?.stats() };
    },
    stop: async ({ leave = false } = {}) => {
      await thread.stop({ leave });
      await keeper?.end();
      place.close({ leave });
    },
    died: thread.died,
  };
}

/** The settings that are given; fish knows the defaults of the others. */
function configOf(fish: FishSettings, vnetHeaderBytes: 0 | 10, placeholdersMax: number) {
  const { timers = {}, client_limits: limits = {} } = fish;
  const given = {
    icmpSource: fish.icmp_source,
    icmpSource6: fish.icmp_source6,
    ipv6AddressesMax: fish.ipv6_addresses_max,
    tcpMapping: fish.tcp_mapping,
    tcpFiltering: fish.tcp_filtering,
    udpMapping: fish.udp_mapping,
    udpFiltering: fish.udp_filtering,
    udpInboundRefresh: fish.udp_inbound_refresh,
    udpPortParity: fish.udp_port_parity,
    refuseTcpWith: fish.refuse_tcp_with,
    unsolicitedSyn: fish.unsolicited_syn,
    icmpErrorsPerSMax: fish.refusals_per_s_max,
    addressPooling: fish.address_pooling,
    clientsMax: fish.clients_max,
    clientPrefix6Bits: fish.client_prefix6_bits,
    tcpFlowsPerClientMax: limits.tcp_flows_max,
    udpFlowsPerClientMax: limits.udp_flows_max,
    icmpFlowsPerClientMax: limits.icmp_flows_max,
    flowsPerSPerClientMax: limits.flows_per_s_max,
    clientShare: limits.share,
    flowsMax: fish.flows_max,
    flowLogMax: fish.flow_log_max,
    fragmentedPacketsMax: fish.fragmented_packets_max,
    fragmentBytesMax: fish.fragment_bytes_max,
    fragmentTimeoutS: fish.fragment_timeout_s,
  };
  const givenTimers = {
    tcpEstablishedS: timers.tcp_established_s,
    tcpOpeningS: timers.tcp_opening_s,
    tcpTransitoryS: timers.tcp_transitory_s,
    tcpRestS: timers.tcp_rest_s,
    tcpResetRestS: timers.tcp_reset_rest_s,
    udpS: timers.udp_s,
    udpRestS: timers.udp_rest_s,
    icmpS: timers.icmp_s,
    icmpRestS: timers.icmp_rest_s,
  };
  const known: Partial<FishConfig> = present(given);
  return {
    ...known,
    timers: { ...defaultTimers, ...present(givenTimers) },
    clientPrefixes: fish.client_prefixes,
    vnetHeaderBytes,
    placeholdersMax,
  };
}

/** Without what was not said: absent and undefined are different facts to `fishConfig`. */
function present<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** Of each protocol and family: its flows, those that rest included, and how far its ports are used toward the busiest remote. */
export function protocolStats({ protocols: used }: PortUse, blocks: FishStats['blocks']): Record<string, number> {
  return Object.fromEntries(
    used.flatMap(({ protocol, family, ports, busiest }) => {
      const own = blocks.filter((block) => block.protocol === protocol && familyOf(block.address) === family);
      return [
        [`flows_${protocol}${family}`, own.reduce((sum, { flows }) => sum + flows, 0)],
        [`port_saturation_${protocol}${family}`, ports === 0 ? 0 : busiest / ports],
      ];
    }),
  );
}

/** Numbers by name, nested ones with their group in front; lists are for `flows`, not for metrics. */
export function flatStats(stats: FishStats): Readonly<Record<string, number>> {
  const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(
    Object.entries(stats).flatMap(([name, value]): [string, number][] => {
      if (typeof value === 'number') return [[snake(name), value]];
      if (Array.isArray(value)) return [];
      return Object.entries(value as Readonly<Record<string, number>>).map(([inner, count]) => [
        `${snake(name)}_${snake(inner)}`,
        count,
      ]);
    }),
  );
}
