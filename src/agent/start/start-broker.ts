import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Broker, type BrokerParts } from '../../broker/broker.ts';
import { err } from '../../net/result.ts';
import type { Logger } from '../../ops/logger.ts';
import { FisheryError, type FisheryClient } from '../../sdk/index.ts';
import type { AppliedAnswer } from '../../wire/agent.ts';
import type { BrokerListeners, RunningBroker } from '../broker-on-host.ts';
import type { AgentParts } from '../agent-parts.ts';
import type { GuardKeeper } from '../guard/guard-keeper.ts';
import { Reports } from '../server/reports.ts';
import type { AgentSettings } from '../settings/settings.ts';

type Parts = Readonly<{
  settings: AgentSettings;
  machine: string;
  client: FisheryClient;
  version: string;
  log: Logger;
  guard: Pick<GuardKeeper, 'isOpen' | 'answeredMsAgo' | 'fence_s'>;
  /** Who is known on this machine, by the server's latest word. */
  holders: BrokerParts['holders'];
  cgroupOf: BrokerParts['cgroupOf'];
  serverNowUs: BrokerParts['serverNowUs'];
  /** As the server knows this boot of this host. */
  speaker: string;
  /** Waits before attempt number `attempt`. */
  pause(attempt: number, signal: AbortSignal): Promise<void>;
}>;

/** What a broker of this host is made of; null where the settings want none. Nothing is opened before one is needed. */
export function brokerOf(parts: Parts): AgentParts['broker'] {
  const { settings, machine, client, version, log, holders, cgroupOf, serverNowUs } = parts;
  if (!settings.broker.enabled) return null;
  const directory = join(settings.state_dir, 'broker');
  let running: Broker | undefined;
  const reports = new Reports({
    send: async (applied): Promise<AppliedAnswer> => {
      if (!running) throw new Error('no broker runs');
      return running.applied(applied);
    },
    isHopeless: () => false,
    pause: (attempt, signal) => parts.pause(attempt, signal),
    log,
  });
  const start = async (listeners: BrokerListeners) => {
    const started = await Broker.start({
      ...{ machine, directory, socket: settings.broker.socket, version, log, holders, cgroupOf, serverNowUs },
      ...listeners,
      cutOff: () => cutOff(parts.guard, Date.now()),
      send: async (report, signal) => {
        try {
          return {
            ok: true,
            answer: await client.agent.granted(machine, { boot_id: parts.speaker, ...report }, { signal }),
          };
        } catch (error) {
          if (!(error instanceof FisheryError)) throw error;
          const gap = error.code === 'report_gap' ? error.problem?.broker : undefined;
          return gap ? { ok: false, gap } : { ok: false, problem: error.message };
        }
      },
      doze: async (ms, signal) => {
        await sleep(ms, undefined, { signal }).catch(() => {});
      },
    });
    if (!started.ok) return err(`${started.error} (setting broker.socket ${settings.broker.socket})`);
    running = started.value;
    return started satisfies { value: RunningBroker };
  };
  return { start, hasTable: () => existsSync(directory), reports };
}

/** Why nothing that was granted now could be used; undefined while the guard is open. */
export function cutOff(
  { isOpen, answeredMsAgo, fence_s }: Pick<GuardKeeper, 'isOpen' | 'answeredMsAgo' | 'fence_s'>,
  nowMs: number,
): string | undefined {
  if (isOpen) return undefined;
  if (answeredMsAgo === undefined)
    return 'the server has not answered a keepalive since the agent of this machine started';
  const since = new Date(nowMs - answeredMsAgo).toISOString();
  return `the server has answered no keepalive since ${since}, for longer than the fence of ${fence_s} s: the guard is shut`;
}
