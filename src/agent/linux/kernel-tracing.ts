import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SysError } from '../../sys/errno.ts';
import { NETLINK_NETFILTER } from '../../sys/netlink.ts';
import { NftTable } from '../../sys/nft-table.ts';
import { HostProblem } from '../host/host.ts';
import { traceTableName } from '../trace/kernel-table.ts';
import type { KernelTracing } from '../trace/kernel-tracer.ts';
import { callTool, followTool } from './commands.ts';

const look_ms = 20;
/** Whoever is not heard by then is waited for no longer: the trace begins without. */
const listening_max_ms = 3_000;
/** The child ends by itself so long after its trace should have, also when the agent is no more. */
const spare_s = 5;
/** NFNLGRP_NFTRACE, as one bit of the groups that a socket has joined. */
const traceGroup = 1 << 8;

/** The table of a trace that an agent left behind, or its own: no table is fine. Throws HostProblem. */
export function removeTraceTable(): void {
  const table = new NftTable(traceTableName);
  try {
    table.remove();
  } catch (error) {
    throw error instanceof SysError ? new HostProblem(error.message, { cause: error }) : error;
  } finally {
    table.close();
  }
}

export const kernelTracing: KernelTracing = {
  load: async (text) => {
    removeTraceTable();
    await callTool('nft', ['-f', '-'], text);
  },
  remove: removeTraceTable,
  listen: async (seconds, onLine) => {
    const before = listeners();
    const until = performance.now() + listening_max_ms;
    const args = [String(Math.ceil(seconds) + spare_s), 'nft', 'monitor', 'trace'];
    const { stop, ended } = followTool('timeout', args, onLine);
    const over = { isOver: false };
    void ended.then(() => {
      over.isOver = true;
    });
    while (!over.isOver && listeners() <= before && performance.now() < until) await sleep(look_ms);
    return { stop, ended };
  },
};

/** How many sockets of this network namespace listen to the traces of nftables. */
const listeners = (): number =>
  readFileSync('/proc/self/net/netlink', 'utf8')
    .split('\n')
    .filter((line) => {
      const [, protocol, , groups = '0'] = line.trim().split(/\s+/);
      return Number(protocol) === NETLINK_NETFILTER && (Number.parseInt(groups, 16) & traceGroup) !== 0;
    }).length;
