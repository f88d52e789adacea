import { defaultTimers, fishConfig, type FishConfig } from '../fish/config.ts';
import type { FlowAnswer as FlowLogAnswer, FlowRecord } from '../fish/flow-log.ts';
import { parseAddress, type Address } from '../net/address.ts';
import { closeFd } from '../sys/descriptors.ts';
import { openTun } from '../sys/tun.ts';
import type { FlowAnswer, FlowQuery } from '../wire/agent.ts';
import { formatInstant, parseInstant } from '../wire/instants.ts';
import type { FishPort } from './fish-port.ts';
import { startFish, type Fish } from './fish/fish.ts';
import { askOnceCovered } from './fish/flow-questions.ts';
import type { FishStats } from './fish/operations.ts';
import { HostProblem } from './host.ts';
import type { AgentSettings, FishSettings } from './settings.ts';

/** Attaches to the TUN device, which the host has by then, and starts the packet path on it. */
export async function startFishOnTun(
  settings: Pick<AgentSettings, 'tun' | 'mark'>,
  fish: FishSettings,
  placeholders_max: number,
): Promise<FishPort> {
  const { fd: tunFd, vnetHeaderBytes } = openTun(settings.tun, { persist: true, offload: true });
  try {
    const config = fishConfig(configOf(fish, vnetHeaderBytes, placeholders_max));
    if (!config.ok) throw new HostProblem(`fish: ${config.error}`);
    const thread = await startFish({ config: config.value, tunFd, mark: settings.mark });
    // The thread is the only reader; whoever it ends by, the device can be attached to again.
    const died = thread.died.then((reason) => {
      closeFd(tunFd);
      return reason;
    });
    return portOf(thread, fish.holder, died, () => closeFd(tunFd));
  } catch (error) {
    closeFd(tunFd);
    throw error;
  }
}

function portOf(thread: Fish, holder: string, died: Promise<string>, onStopped: () => void): FishPort {
  return {
    setBlocks: async (blocks) => {
      const { refused } = await thread.setBlocks(blocks);
      return refused.map(({ block, reason }) => ({ lease: block.lease, reason }));
    },
    answer: async (query) => {
      const asked = flowQueryOf(query);
      const answer = await askOnceCovered(() => thread.queryFlowLog(asked, flows_max), asked.at);
      return flowAnswerOf(query, answer, holder);
    },
    stats: async () => flatStats(await thread.stats()),
    stop: async () => {
      await thread.stop();
      onStopped();
    },
    died,
  };
}

/** As many flows as one answer may carry. */
const flows_max = 1_000;

/** The settings that are given; fish knows the defaults of the others. */
function configOf(fish: FishSettings, vnetHeaderBytes: 0 | 10, placeholdersMax: number) {
  const { timers = {} } = fish;
  const given = {
    icmpSource: fish.icmp_source,
    udpFiltering: fish.udp_filtering,
    flowsMax: fish.flows_max,
    flowLogMax: fish.flow_log_max,
  };
  const givenTimers = {
    tcpEstablishedS: timers.tcp_established_s,
    tcpTransitoryS: timers.tcp_transitory_s,
    tcpRestS: timers.tcp_rest_s,
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

export function flowQueryOf(query: FlowQuery) {
  return {
    protocol: query.protocol,
    address: addressOf(query.address),
    port: query.port,
    remote: query.remote_address === null ? null : addressOf(query.remote_address),
    remotePort: query.remote_port,
    at: parseInstant(query.at),
  };
}

/** A UDP mapping is toward all remotes: its flow is told with the remote that was asked about, or with none. */
const anyRemote = '0.0.0.0' as Address;

export function flowAnswerOf(query: FlowQuery, answer: FlowLogAnswer, holder: string): FlowAnswer {
  const asked = query.remote_address === null ? anyRemote : addressOf(query.remote_address);
  const flow = ({ lease, client, remote, remotePort, openedAt, closedAt }: FlowRecord) => ({
    holder,
    lease,
    client,
    remote_address: remote ?? asked,
    remote_port: remotePort ?? query.remote_port ?? 0,
    opened_at: formatInstant(openedAt),
    closed_at: closedAt === null ? null : formatInstant(closedAt),
  });
  return {
    id: query.id,
    covers_since: formatInstant(answer.coversSince),
    covers_through: formatInstant(answer.coversThrough),
    clock_margin_s: answer.marginUs / 1_000_000,
    flows: answer.matches.map(flow),
  };
}

function addressOf(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
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
