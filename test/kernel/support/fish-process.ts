import { startFish, type Fish } from '../../../src/agent/fish/fish.ts';
import type { LeasedBlock } from '../../../src/fish/ports/blocks.ts';
import { fishConfig } from '../../../src/fish/config.ts';
import type { FlowQuery } from '../../../src/fish/flows/flow-tuple.ts';
import { addressToBytes } from '../../../src/net/address.ts';
import { closeFd } from '../../../src/sys/descriptors.ts';
import { openBound, openPing } from '../../../src/sys/placeholders.ts';
import { openTun } from '../../../src/sys/tun.ts';

export type FishSettings = Omit<Parameters<typeof fishConfig>[0], 'vnetHeaderBytes'>;

/**
 * The agent, as far as fish needs one, inside a namespace: opens the TUN, starts fish, holds the ports of exclusive blocks by
 * bound sockets. Told what to do over IPC, it answers every message once.
 */
export type FishCommand =
  | { do: 'start'; settings: FishSettings; mark: number }
  | { do: 'setBlocks'; blocks: readonly LeasedBlock[] }
  | { do: 'endLease'; lease: string }
  | { do: 'stats' }
  | { do: 'flows' }
  | { do: 'queryFlowLog'; query: FlowQuery }
  | { do: 'stop' };

let fish: Fish | undefined;
let tunFd = -1;

const held = new Set<string>();

/** Holds what is not held yet: blocks may be told again, and others of the same ports. */
function hold({ mode, protocol, address, ports }: LeasedBlock): void {
  if (mode === 'shared') return;
  const bytes = addressToBytes(address);
  for (let port = ports.first; port <= ports.last; port++) {
    const key = `${protocol} ${address}:${port}`;
    if (held.has(key)) continue;
    const socket = protocol === 'icmp' ? openPing(bytes, port) : openBound(bytes, port, protocol, 0);
    if (socket < 0) throw new Error(`${key}: errno ${-socket}`);
    held.add(key);
  }
}

async function carryOut(command: FishCommand): Promise<unknown> {
  if (command.do === 'start') {
    const { fd, vnetHeaderBytes, offloads } = openTun('fishtun', { persist: false, offload: true });
    const config = fishConfig({ ...command.settings, vnetHeaderBytes });
    if (!config.ok) throw new Error(config.error);
    tunFd = fd;
    fish = await startFish({ config: config.value, tunFd: fd, mark: command.mark });
    return offloads;
  }
  if (!fish) throw new Error('fish is not started');
  switch (command.do) {
    case 'setBlocks':
      return fish.setBlocks(command.blocks);
    case 'endLease':
      return fish.endLease(command.lease);
    case 'stats':
      return fish.stats();
    case 'flows':
      return fish.flows();
    case 'queryFlowLog':
      return fish.queryFlowLog(command.query);
    case 'stop':
      await fish.stop();
      // The device goes with it.
      closeFd(tunFd);
      fish = undefined;
      return null;
  }
}

process.on('message', (command: FishCommand) => {
  void (async () => {
    try {
      if (command.do === 'setBlocks') command.blocks.forEach(hold);
      process.send?.({ value: await carryOut(command) });
    } catch (error) {
      process.send?.({ error: String(error) });
    }
  })();
});
process.send?.({ value: 'ready' });
