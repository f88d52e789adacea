import type { Check } from './check.ts';
import { agentChecks } from './checks/agent.ts';
import { brokerChecks } from './checks/broker.ts';
import { clockChecks } from './checks/clock.ts';
import { conntrackChecks } from './checks/conntrack.ts';
import { deviceChecks } from './checks/devices.ts';
import { fileChecks } from './checks/files.ts';
import { kernelChecks } from './checks/kernel.ts';
import { limitChecks } from './checks/limits.ts';
import { nftablesChecks } from './checks/nftables.ts';
import { routingChecks } from './checks/routing.ts';
import { socketChecks } from './checks/sockets.ts';
import { terminateChecks } from './checks/terminate.ts';
import { sysctlChecks } from './checks/sysctls.ts';

/** All checks, by what they look at, in the order in which they are reported. */
export const checkGroups: readonly Readonly<{ title: string; checks: readonly Check[] }>[] = [
  { title: 'Kernel and tools', checks: kernelChecks },
  { title: 'Sysctls', checks: sysctlChecks },
  { title: 'Policy routing', checks: routingChecks },
  { title: 'nftables', checks: nftablesChecks },
  { title: 'Connection tracking', checks: conntrackChecks },
  { title: 'Sockets', checks: socketChecks },
  { title: 'Devices', checks: deviceChecks },
  { title: 'Limits', checks: limitChecks },
  { title: 'Clocks', checks: clockChecks },
  { title: 'Files', checks: fileChecks },
  { title: 'Agent and server', checks: agentChecks },
  { title: 'Terminating path', checks: terminateChecks },
  { title: 'Broker', checks: brokerChecks },
];

export const checks: readonly Check[] = checkGroups.flatMap((group) => group.checks);
