import { inNamespace, ipBatch, run, tryRun } from './commands.ts';

/**
 * Three network namespaces in a row. The pool's address is routed to the host; nothing else of it is set up here, that is
 * the agent's work (or, where the kernel's own NAT is shown, that of the step).
 *
 *     PREFIX-client            PREFIX-host                       PREFIX-origin
 *     c0 100.96.0.2/24 ------- hc 100.96.0.1/24
 *                              h0 192.0.2.1/24 ----------------- o0 192.0.2.2/24
 *                              (198.51.100.0/24 leads here)      lo 203.0.113.1/32, 203.0.113.2/32
 *     default via host         default via origin
 *
 * The client's address is its own and unknown to the origin, which has no route to it: what comes from the client either
 * leaves with an address of the pool or gets no answer.
 */
export type Lab = Readonly<{ client: string; host: string; origin: string; remove: () => void }>;

export const addresses = {
  client: '100.96.0.2',
  hostToClient: '100.96.0.1',
  hostToOrigin: '192.0.2.1',
  poolPrefix: '198.51.100.0/24',
  origin: '203.0.113.1',
  /** A second destination, to show that ports are taken per destination. */
  otherOrigin: '203.0.113.2',
  /** The web server's second port, on both. */
  otherPort: 8_080,
  originLink: '192.0.2.2',
  broadcast: '192.0.2.255',
  /** The discard port: nobody listens, and nobody answers a broadcast. */
  markerPort: 9,
} as const;

export const links = { client: 'c0', hostToClient: 'hc', hostToOrigin: 'h0', origin: 'o0' } as const;

const namesOf = (prefix: string) =>
  ({ client: `${prefix}-client`, host: `${prefix}-host`, origin: `${prefix}-origin` }) as const;

/** Removes what a run that died may have left, then builds. */
export function createLab(prefix: string): Lab {
  removeLab(prefix);
  const { client, host, origin } = namesOf(prefix);
  for (const namespace of [client, host, origin]) {
    run('ip', 'netns', 'add', namespace);
    // Router solicitations and IPv6 of its own would only be noise in the capture: the lab speaks IPv4.
    inNamespace(namespace, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
  }
  run(
    'ip',
    'link',
    'add',
    links.hostToOrigin,
    'netns',
    host,
    'type',
    'veth',
    'peer',
    'name',
    links.origin,
    'netns',
    origin,
  );
  run(
    'ip',
    'link',
    'add',
    links.hostToClient,
    'netns',
    host,
    'type',
    'veth',
    'peer',
    'name',
    links.client,
    'netns',
    client,
  );
  ipBatch(
    host,
    `addr add 192.0.2.1/24 dev h0
     addr add 100.96.0.1/24 dev hc
     link set lo up
     link set h0 up
     link set hc up
     route add default via 192.0.2.2`,
  );
  ipBatch(
    client,
    `addr add 100.96.0.2/24 dev c0
     link set lo up
     link set c0 up
     route add default via 100.96.0.1`,
  );
  ipBatch(
    origin,
    `addr add 192.0.2.2/24 dev o0
     addr add 203.0.113.1/32 dev lo
     addr add 203.0.113.2/32 dev lo
     link set lo up
     link set o0 up
     route add 198.51.100.0/24 via 192.0.2.1`,
  );
  return labOf(prefix);
}

/** The lab of that prefix, which somebody has created. */
export const labOf = (prefix: string): Lab => ({ ...namesOf(prefix), remove: () => removeLab(prefix) });

/** Ends every process inside the lab's namespaces, whoever left it there, and deletes them. */
export function removeLab(prefix: string): void {
  const existing = new Set(
    tryRun('ip', 'netns', 'list')
      .split('\n')
      .map((line) => line.split(' ')[0]),
  );
  for (const namespace of Object.values(namesOf(prefix))) {
    if (!existing.has(namespace)) continue;
    for (const pid of tryRun('ip', 'netns', 'pids', namespace).split('\n').filter(Boolean)) endProcess(Number(pid));
    tryRun('ip', 'netns', 'del', namespace);
  }
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself since it was listed.
  }
}
