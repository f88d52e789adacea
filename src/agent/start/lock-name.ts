import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { err, ok, type Result } from '../../net/result.ts';
import { holderOfName, takeName } from '../../sys/abstract-name.ts';

/**
 * The same lock as the file's, for agents that do not see one another's files: a container with a /run of its own may be in the
 * network namespace of the host. The name of a socket belongs to that namespace, as rules and nftables do.
 */
export const lockName = 'fishery-agent';

export type HeldName = Readonly<{
  release(): void;
  /** Somebody who is no agent has the name: a line for people. null: this process has it. */
  doubt: string | null;
}>;

/** Whoever takes the name listens at once; whoever dies loses it. */
const tries_max = 10;
const between_tries_ms = 10;
const nothing = (): void => undefined;
const command_chars_max = 200;

/** The error says who has it. Anybody may take a name, so only a process of this user (root, in production) is believed. */
export function holdName(name: string): Result<HeldName, string> {
  for (let attempt = 0; attempt < tries_max; attempt++) {
    const fd = takeName(name);
    if (fd !== undefined) return ok({ release: answering(fd), doubt: null });
    const holder = holderOfName(name);
    if (holder && holder.uid === process.geteuid?.())
      return err(
        `an agent is at work in this network namespace already, with a /run of its own (${describe(holder.pid)}): stop it first`,
      );
    if (holder) return ok({ release: nothing, doubt: doubt(name, `user ${holder.uid} (${describe(holder.pid)})`) });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, between_tries_ms);
  }
  return ok({ release: nothing, doubt: doubt(name, 'somebody who does not listen there') });
}

const doubt = (name: string, who: string): string =>
  `${who} has the name @${name} of this network namespace: a second agent with a /run of its own would not be noticed`;

/** Takes connections and ends them: too many that wait would keep others from asking whose the name is. */
function answering(fd: number): () => void {
  const server = createServer((connection) => connection.destroy());
  // Who cannot listen still has the name.
  server.on('error', nothing);
  server.listen({ fd });
  server.unref();
  return () => server.close();
}

/** 0: a process that cannot be seen from here. */
function describe(pid: number): string {
  if (pid === 0) return 'a process of another PID namespace, as in a container';
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean).join(' ');
    return `process ${pid}: ${command.slice(0, command_chars_max)}`;
  } catch {
    return `process ${pid}`;
  }
}
