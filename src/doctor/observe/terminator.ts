import { readFileSync } from 'node:fs';
import { terminatorPath } from '../../agent/start/start-terminator.ts';
import { packageVersion } from '../../ops/version.ts';
import { AF_INET, IP_TRANSPARENT, SOCK_CLOEXEC, SOCK_STREAM, SOL_IP } from '../../sys/constants.ts';
import { closeFd } from '../../sys/descriptors.ts';
import { errnoName } from '../../sys/errno.ts';
import { libc } from '../../sys/libc.ts';
import { setOption } from '../../sys/socket-options.ts';
import { connectTerminator } from '../../terminate/client.ts';
import type { TerminatorFacts } from '../facts.ts';

/** The terminator of this network namespace, which is asked for nothing but who it is. */
export async function readTerminator(): Promise<TerminatorFacts> {
  const path = terminatorPath();
  const ownVersion = packageVersion();
  const there = await connectTerminator(path);
  if (!there.ok) return { path, process: null, problem: there.error, descriptors_hard: null, ownVersion };
  const { pid, version } = there.value.hello;
  there.value.close();
  return { path, process: { pid, version }, problem: null, descriptors_hard: hardLimitOf(pid), ownVersion };
}

function hardLimitOf(pid: number): number | null {
  try {
    const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1];
    return hard === undefined ? null : hard === 'unlimited' ? Infinity : Number(hard);
  } catch {
    // Gone meanwhile, or in another process namespace.
    return null;
  }
}

/** errno's name; null when it opens. */
export function tryTransparentSocket(): string | null {
  const c = libc();
  const fd = c.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errnoName(-c.errno());
  const refusal = setOption(fd, SOL_IP, IP_TRANSPARENT, 1);
  closeFd(fd);
  return refusal < 0 ? errnoName(refusal) : null;
}
