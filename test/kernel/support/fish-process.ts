import { startFish, type Fish } from '../../../src/agent/fish/fish.ts';
import type { LeasedBlock } from '../../../src/fish/ports/blocks.ts';
import { fishConfig } from '../../../src/fish/config.ts';
import type { FlowQuery } from '../../../src/fish/flows/flow-tuple.ts';
import { addressToBytes } from '../../../src/net/address.ts';
import { openBound, openPing } from '../../../src/sys/placeholders.ts';
import { openTun } from '../../../src/sys/tun.ts';

/**
 * The agent, as far as fish needs one, inside a namespace: opens the TUN, starts fish, holds the ports of exclusive blocks by
 * bound sockets. Told what to do over IPC, it answers every message once.
 */
export type FishCommand =
  | { do: 'start'; client_prefix: string; icmp_source: string; mark: number }
  | { do: 'setBlocks'; blocks: readonly LeasedBlock[] }
  | { do: 'endLease'; lease: string }
  | { do: 'stats' }
  | { do: 'flows' }
  | { do: 'queryFlowLog'; query: FlowQuery }
  | { do: 'stop' };

let fish: Fish | undefined;

function hold(block: LeasedBlock): void {
  if (block.mode === 'shared') return;
  const address = addressToBytes(block.address);
  for (let port = block.ports.first; port <= block.ports.last; port++) {
    const held = block.protocol === 'icmp' ? openPing(address, port) : openBound(address, port, block.protocol, 0);
    if (held < 0) throw new Error(`${block.protocol} ${block.address}:${port}: errno ${-held}`);
  }
}

async function carryOut(command: FishCommand): Promise<unknown> {
  if (command.do === 'start') {
    const { fd, vnetHeaderBytes, offloads } = openTun('fishtun', { persist: false, offload: true });
    const config = fishConfig({
      clientPrefixes: [command.client_prefix as never],
      icmpSource: command.icmp_source as never,
      vnetHeaderBytes,
    });
    if (!config.ok) throw new Error(config.error);
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
      return fish.stop();
  }
}

const heldBlocks = new Set<string>();
process.on('message', (command: FishCommand) => {
  void (async () => {
    try {
      if (command.do === 'setBlocks')
        for (const block of command.blocks) {
          const key = JSON.stringify(block);
          if (!heldBlocks.has(key)) hold(block);
          heldBlocks.add(key);
        }
      process.send?.({ value: await carryOut(command) });
    } catch (error) {
      process.send?.({ error: String(error) });
    }
  })();
});
process.send?.({ value: 'ready' });
