import { accessSync, constants } from 'node:fs';
import type { Family } from '../net/address.ts';
import { err, ok, type Result } from '../net/result.ts';
import { raiseDescriptorLimit } from '../sys/descriptors.ts';
import { HostProblem } from './host.ts';
import { openCgroups } from './linux/cgroups.ts';
import { runTool } from './linux/commands.ts';
import { readSysctl } from './linux/sysctl.ts';
import type { CgroupTable } from './ownership.ts';

/** What this host can do, looked at before anything is changed. */
export type HostFacts = Readonly<{ families: readonly Family[]; descriptors_max: number; cgroups: CgroupTable }>;

/** Each obstacle is one line that says what to do. */
export async function preflight(o: Readonly<{ needsTun: boolean }>): Promise<Result<HostFacts, string>> {
  if (process.platform !== 'linux') return err(`the agent works on Linux; this is ${process.platform}`);
  if (process.geteuid?.() !== 0) return err('the agent needs root (CAP_NET_ADMIN and CAP_NET_RAW): run it as root');
  try {
    const { code, stderr } = await runTool('nft', ['--version']);
    if (code !== 0) return err(`nft does not work here: ${stderr.trim()}`);
  } catch (error) {
    if (error instanceof HostProblem) return err(error.message);
    throw error;
  }
  if (o.needsTun) {
    try {
      accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    } catch {
      return err('/dev/net/tun is missing: load the module tun, or pass the device into the container');
    }
  }
  return ok({ families: families(), descriptors_max: raiseDescriptorLimit().hard, cgroups: await openCgroups() });
}

/** IPv6 may be compiled out, or switched off; IPv4 is what fish translates. */
export const families = (): readonly Family[] => (readSysctl('net/ipv6/conf/all/disable_ipv6') === '0' ? [4, 6] : [4]);

/** Connections, files, the TUN and whatever else a process has open. */
const descriptors_reserved = 1_024;
const flow_placeholders_default = 16_384;

export type DescriptorBudget = Readonly<{
  /** For ports and echo identifiers that fish has to itself. */
  bound_max: number;
  /** For fish's flows in shared blocks. */
  flows_max: number;
}>;

/**
 * Who may spend how many descriptors: a placeholder is one, and the agent must never be without one for its own
 * connection to the server. The error says what to raise.
 */
export function shareDescriptors(
  limit: number,
  wanted: Readonly<{ exclusivePorts: number; flowPlaceholders: number | undefined }>,
): Result<DescriptorBudget, string> {
  const spare = limit - descriptors_reserved - wanted.exclusivePorts;
  const flows_max = wanted.flowPlaceholders ?? Math.min(flow_placeholders_default, Math.max(0, Math.floor(spare / 2)));
  const needed = descriptors_reserved + wanted.exclusivePorts + flows_max;
  if (needed > limit || (wanted.flowPlaceholders === undefined && spare < 0))
    return err(
      `${needed} descriptors are needed (${wanted.exclusivePorts} for the ports that fish claims exclusively, ` +
        `${flows_max} for its flows, ${descriptors_reserved} for the rest) and ${limit} are allowed: ` +
        'raise LimitNOFILE, or claim less',
    );
  return ok({ bound_max: Math.min(limit, 2 ** 24) - descriptors_reserved - flows_max, flows_max });
}
