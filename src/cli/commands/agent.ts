import { hostname } from 'node:os';
import { explainRefusal, startAgent } from '../../agent/start/start-agent.ts';
import { agentSettings, hostSettings, type AgentSettings } from '../../agent/settings/settings.ts';
import { guardAlone } from '../../agent/guard/guard-alone.ts';
import { takeDown } from '../../agent/start/take-down.ts';
import { changeGuard } from '../../agent/guard/sleep-guard.ts';
import { createLogger } from '../../ops/logger.ts';
import { SecretFile } from '../../ops/secret-file.ts';
import { readSecretFile } from '../../ops/settings.ts';
import { Shutdown } from '../../ops/shutdown.ts';
import { packageVersion } from '../../ops/version.ts';
import { FisheryError } from '../../sdk/index.ts';
import { Name } from '../../wire/primitives.ts';
import { defineCommand, exitCodes, type CommandContext } from '../command.ts';

/** Longer than giving fish's leases back may take. */
const shutdown_deadline_ms = 15_000;

export const command = defineCommand({
  settings: agentSettings,
  positionals: [
    {
      name: 'action',
      description:
        'up: keep this host as the server says; down: put it back as it was; shut, open: the guard, around sleep; ' +
        'guard: load it, shut, where there is none',
      choices: ['up', 'down', 'shut', 'open', 'guard'],
      required: false,
    },
  ],
  details: `Needs root. Works in the network namespace it is started in. Fish is set up in a configuration file:

  agent:
    machine: edge-1
    uplinks: [eth0]
    client_interfaces: [wg0]
    fish:
      client_prefixes: [100.64.0.0/10]
      claims:
        - { protocol: tcp, mode: shared, ports: 128 }
        - { protocol: udp, ports: 64 }
        - { protocol: icmp, ports: 16 }

SIGTERM leaves leases, flows and the host as they are, for an agent that is started within fence_s; after that the guard
is shut (keep: false gives fish's leases back at once). "fishery agent down" ends everything and restores the host.`,
  run: (settings, context) => {
    const { action } = context.positionals;
    if (action === 'shut' || action === 'open') return moveGuard(action, settings, context);
    if (action === 'guard') return bringGuard(settings, context);
    return action === 'down' ? bringDown(settings, context) : bringUp(settings, context);
  },
});

async function moveGuard(action: 'shut' | 'open', settings: AgentSettings, { print, complain }: CommandContext) {
  const done = await changeGuard(action, settings.state_dir);
  if (!done.ok) {
    complain(done.error);
    return exitCodes.failure;
  }
  print(done.value);
  return exitCodes.ok;
}

/** undefined, and said, where the host's own name cannot be one. */
function machineOf(settings: AgentSettings, { complain }: CommandContext): string | undefined {
  const machine = settings.machine ?? hostname().toLowerCase();
  if (Name.safeParse(machine).success) return machine;
  complain(`this host is called "${machine}", which is no name of a machine: set machine`);
  return undefined;
}

async function bringGuard(settings: AgentSettings, context: CommandContext): Promise<number> {
  const machine = machineOf(settings, context);
  if (machine === undefined) return exitCodes.usage;
  const log = createLogger({ level: settings.log_level, name: 'fishery-guard' });
  const done = await guardAlone(settings, machine, log);
  if (!done.ok) {
    context.complain(done.error);
    return exitCodes.failure;
  }
  context.print(done.value);
  return exitCodes.ok;
}

async function bringUp(settings: AgentSettings, context: CommandContext): Promise<number> {
  const { complain } = context;
  const machine = machineOf(settings, context);
  if (machine === undefined) return exitCodes.usage;
  const token = readSecretFile(settings.token_file);
  if (!token.ok) {
    complain(`token_file: ${token.problem}; have a token of role agent made for machine "${machine}"`);
    return exitCodes.usage;
  }
  const secret = new SecretFile(settings.token_file, token.value);
  const log = createLogger({ level: settings.log_level, name: 'fishery-agent' });
  const started = await startAgent({ settings, machine, token: secret.read, version: packageVersion(), log });
  if (!started.ok) {
    complain(started.error);
    return exitCodes.failure;
  }
  const { finished, stop } = started.value;
  const shutdown = new Shutdown({ deadline_ms: shutdown_deadline_ms, log });
  shutdown.register('agent', stop);
  try {
    await finished;
    return await shutdown.finished;
  } catch (error) {
    if (!(error instanceof FisheryError)) throw error;
    complain(explainRefusal(error, machine, settings.token_file));
    return exitCodes.failure;
  }
}

async function bringDown(settings: AgentSettings, { print, complain }: CommandContext): Promise<number> {
  const done = await takeDown(settings.state_dir, hostSettings(settings));
  if (!done.ok) {
    complain(done.error);
    return exitCodes.failure;
  }
  for (const line of done.value) print(line);
  if (done.value.length === 0) print('nothing of the agent is on this host');
  return exitCodes.ok;
}
