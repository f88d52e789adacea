import { chmodSync } from 'node:fs';
import { HostProblem } from '../agent/host/host.ts';
import { callTool } from '../agent/linux/commands.ts';
import { writeSysctl } from '../agent/linux/sysctl.ts';
import { tableName } from '../agent/host/ruleset.ts';
import { err, ok, type Result } from '../net/result.ts';
import { sysctlName, type Fix } from './check.ts';

/** One line, as somebody would type it. */
export function describeFix(fix: Fix): string {
  switch (fix.do) {
    case 'sysctl':
      return `sysctl -w ${sysctlName(fix.key)}="${fix.value}"`;
    case 'mode':
      return `chmod 0${fix.mode.toString(8)} ${fix.path}`;
    case 'link':
      return `ip link set dev ${fix.device} ${fix.property} ${fix.value}`;
    case 'shut-guard':
      return `nft delete element inet ${tableName} alive { 0 }`;
  }
}

/** Carries one out; the error is what the host answered, in one line for people. */
export async function carryOut(fix: Fix): Promise<Result<undefined, string>> {
  try {
    switch (fix.do) {
      case 'sysctl':
        writeSysctl(fix.key, fix.value);
        break;
      case 'mode':
        chmodSync(fix.path, fix.mode);
        break;
      case 'link':
        await callTool('ip', ['link', 'set', 'dev', fix.device, fix.property, String(fix.value)]);
        break;
      case 'shut-guard':
        await callTool('nft', ['delete', 'element', 'inet', tableName, 'alive', '{ 0 }']);
        break;
    }
    return ok(undefined);
  } catch (error) {
    if (error instanceof HostProblem || (error instanceof Error && 'code' in error)) return err(error.message);
    throw error;
  }
}
