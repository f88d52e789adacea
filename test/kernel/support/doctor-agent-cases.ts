import { closeAll, guard, nft, noTable, sh, type Case } from './doctor-breaking.ts';
import type { DoctorLab } from './doctor-lab.ts';

const stuck = {
  leases: [
    {
      lease: 'lease-9',
      holder: 'fish',
      block: '198.51.100.10 tcp 8192-8319',
      phase: 'refused',
      for_s: 3,
      detail: 'EADDRINUSE: x',
    },
  ],
};
const unitOf = (d: DoctorLab): string => `fishery-${d.lab.host}.service`;
/** The agent, its keepers, and the server that it hears. */
export const agentCases: readonly Case[] = [
  {
    id: 'agent',
    how: 'its table is left, and it does not run',
    break: nft(guard()),
    says: /no agent answers at/,
    severity: 'error',
    undo: noTable('inet fishery'),
    after: 'info',
  },
  {
    id: 'leases-not-up',
    how: 'refused',
    break: (d) =>
      d.ask({
        op: 'serve',
        at: `${d.lab.folder}/state/agent.sock`,
        answers: { '/status': JSON.stringify(stuck), '/healthz': 'ok' },
      }),
    says: /lease-9 .* is refused: EADDRINUSE: x/,
    severity: 'warning',
    undo: closeAll,
  },
  {
    id: 'duplicate-agents',
    how: 'two in one namespace',
    break: sh(`printf '#!/bin/sh\\nsleep 60\\n:\\n' > $WORK/fishery; chmod 755 $WORK/fishery
      for each in 1 2; do setsid $WORK/fishery agent > /dev/null 2>&1 < /dev/null & done
      for each in 1 2 3 4 5 6 7 8 9 10; do test $(pgrep -fc "^/bin/sh $WORK/fishery agent") -ge 2 && break; sleep 0.1; done`),
    says: /2 agents in this network namespace/,
    severity: 'error',
    undo: (d) =>
      d.shell(
        `for pid in $(ip netns pids ${d.lab.host}); do tr '\\0' ' ' < /proc/$pid/cmdline | grep -q "^/bin/sh $WORK/fishery agent" && kill $pid; done; true`,
      ),
  },
  {
    id: 'keeper',
    how: 'none',
    break: sh('mkdir -p /run/fishery; mount -t tmpfs -o mode=755 none /run/fishery'),
    says: /no keeper listens/,
    severity: 'info',
    undo: (d) =>
      d.ask({ op: 'seqpacket', path: `/run/fishery/keeper-${d.shell('stat -Lc %i /proc/self/ns/net')}-1.sock` }),
  },
  {
    id: 'keeper',
    how: 'one that died beside one that lives',
    break: (d) => d.shell('touch /run/fishery/keeper-$(stat -Lc %i /proc/self/ns/net)-2.sock'),
    says: /nobody listens at .*-2\.sock/,
    severity: 'warning',
    undo: async (d) => d.shell('rm /run/fishery/keeper-*-2.sock'),
  },
  {
    id: 'keeper-in-unit',
    how: 'one that the agent has started',
    break: async (d) => {
      const [agentPid, keeperPid] = d
        .shell(
          `grep -q ' /sys/fs/cgroup cgroup2' /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
          unit=/sys/fs/cgroup/${unitOf(d)}; mkdir -p $unit; mkdir -p -m 700 $WORK/state
          for each in 1 2; do sleep 600 > /dev/null 2>&1 < /dev/null & echo $! > $unit/cgroup.procs; echo $!; done`,
        )
        .split('\n')
        .map(Number);
      const keepers = [{ number: 0, implementation: 'native', pid: keeperPid, placeholders: 0, problem: null }];
      await d.ask({
        op: 'serve',
        at: `${d.lab.folder}/state/agent.sock`,
        answers: { '/status': JSON.stringify({ pid: agentPid, keepers }), '/healthz': 'ok' },
      });
    },
    says: /keeper 0 \(process \d+\) is in .*\.service, as the agent is/,
    severity: 'warning',
    undo: async (d) => {
      await closeAll(d);
      d.shell(`unit=/sys/fs/cgroup/${unitOf(d)}; for pid in $(cat $unit/cgroup.procs); do kill $pid; done
        for each in 1 2 3 4 5 6 7 8 9 10; do rmdir $unit && break; sleep 0.1; done; test ! -d $unit`);
    },
  },
  {
    id: 'server',
    how: 'nobody there',
    break: async () => {},
    says: /127\.0\.0\.1:9/,
    severity: 'error',
    settings: { server: 'http://127.0.0.1:9' },
    after: 'none',
  },
  {
    id: 'server',
    how: 'a token that it does not know',
    break: (d) =>
      d.shell(
        `mv ${d.lab.folder}/token ${d.lab.folder}/right; echo fsh_wrong > ${d.lab.folder}/token; chmod 600 ${d.lab.folder}/token`,
      ),
    says: /token/,
    severity: 'error',
    undo: (d) => d.shell(`mv ${d.lab.folder}/right ${d.lab.folder}/token`),
  },
  {
    id: 'token-file',
    how: 'missing',
    break: (d) => d.shell(`mv ${d.lab.folder}/token ${d.lab.folder}/right`),
    says: /there is no such file/,
    severity: 'warning',
    undo: (d) => d.shell(`mv ${d.lab.folder}/right ${d.lab.folder}/token`),
  },
  {
    id: 'fish-holder',
    how: 'nobody made it',
    break: async (d) => {
      const { machines } = d.lab.client;
      await machines.deleteHolder(await machines.holder('edge', 'fish'));
    },
    says: /machine edge has no holder fish/,
    severity: 'error',
    undo: (d) => d.lab.client.machines.putHolder('edge', 'fish', { kind: 'fish' }),
  },
  {
    id: 'holder-user',
    how: 'nobody has that number',
    break: (d) => d.lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: 54_321 }),
    says: /holder web is user 54321/,
    severity: 'warning',
    undo: (d) => d.lab.client.machines.putHolder('edge', 'web', { kind: 'proxy', uid: 1 }),
  },
];
