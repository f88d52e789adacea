import { accessSync, constants } from 'node:fs';
import { err, ok, type Result } from '../../net/result.ts';
import { raiseDescriptorLimit } from '../../sys/descriptors.ts';
import { kept_max, reserved } from '../../keeper/protocol.ts';
import { HostProblem } from '../host/host.ts';
import { openCgroups } from '../linux/cgroups.ts';
import { keepers_max, singletons_max } from '../placeholders/keepers.ts';
import { runTool } from '../linux/commands.ts';
import type { Spare } from '../linux/spare.ts';
import type { CgroupTable } from '../leases/ownership.ts';

/** What this host can do, looked at before anything is changed. */
export type HostFacts = Readonly<{ descriptors_max: number; cgroups: CgroupTable }>;

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
  return ok({ descriptors_max: raiseDescriptorLimit().hard, cgroups: await openCgroups() });
}

/** Connections, files, the TUN, a message to a keeper, and whatever else a process has open. */
const descriptors_reserved = 1_024;
const flow_placeholders_default = 16_384;
/** Of the kernel's memory: a socket with its file, inode and buckets; measured with a hundred thousand of them. */
const placeholder_bytes = 4_608;
/** Placeholders are not all that a host has memory for. */
const memory_share = 0.75;

export type PlaceholderBudget = Readonly<{
  /** Ports and echo identifiers that fish has to itself. */
  bound_max: number;
  /** What to do where these are too few. */
  remedy: string;
  /** Fish's flows in shared blocks. */
  flows_max: number;
}>;

/**
 * How many placeholders there may be. They live in as many keepers as they take, so what bounds them is the memory of this
 * host and the number of its open files. `held`: those that a former agent left are paid for already. `keeper_descriptors_max`:
 * what a keeper may open, where that is known; else as many as this process. The error says what to raise.
 */
export function placeholderBudget(
  host: Readonly<{
    descriptors_max: number;
    spare: Spare;
    held: number;
    keeper_descriptors_max?: number | undefined;
  }>,
  wanted: Readonly<{ exclusivePorts: number; flowPlaceholders: number | undefined }>,
): Result<PlaceholderBudget, string> {
  const { descriptors_max, spare, held } = host;
  if (descriptors_max < descriptors_reserved)
    return err(`${descriptors_reserved} descriptors are needed, and ${descriptors_max} are allowed: raise LimitNOFILE`);
  const perKeeper_max = host.keeper_descriptors_max ?? descriptors_max;
  const perKeeper = Math.max(0, Math.min(perKeeper_max - reserved, kept_max));
  const flows_max = wanted.flowPlaceholders ?? Math.min(flow_placeholders_default, Math.floor(perKeeper / 2));
  if (flows_max > keepers_max * perKeeper - singletons_max)
    return err(
      `${flows_max} placeholders are wanted for the flows of fish, and ${keepers_max} keepers may open ` +
        `${perKeeper_max} descriptors each: raise LimitNOFILE, or set fewer placeholders_max`,
    );
  const bounds = [
    {
      most: keepers_max * perKeeper - flows_max - singletons_max,
      remedy: `${keepers_max} keepers may open ${perKeeper_max} descriptors each: raise LimitNOFILE`,
    },
    {
      most: spare.files + held - flows_max,
      remedy: 'each is an open file, and the system has no more of them: raise fs.file-max',
    },
    {
      most: Math.floor((spare.memory_bytes * memory_share) / placeholder_bytes) + held - flows_max,
      remedy: `each takes ${placeholder_bytes} bytes of the kernel's memory: give this host more of it`,
    },
  ].map(({ most, remedy }) => ({ most: Math.max(0, most), remedy }));
  const { most: bound_max, remedy } = bounds.reduce((least, bound) => (bound.most < least.most ? bound : least));
  if (wanted.exclusivePorts > bound_max)
    return err(
      `fish claims ${wanted.exclusivePorts} ports exclusively, and this host can hold ${bound_max} placeholders ` +
        `beside ${flows_max} for flows: ${remedy}, or claim less`,
    );
  return ok({ bound_max, remedy: `${remedy}, or claim less`, flows_max });
}
