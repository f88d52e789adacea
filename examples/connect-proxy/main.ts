/**
 * An HTTP CONNECT proxy whose every connection leaves from ports that Fishery leased to it. See README.md.
 * Exit codes: 0 asked to stop, 1 no lease to be had, 2 wrong settings, 75 the lease was lost (start it again).
 */
import { formatPorts } from '../../src/net/ports.ts';
import { connect } from '../../src/sdk/index.ts';
import { createProxy } from './proxy.ts';
import { acquire, type Right } from './right.ts';
import { readSettings, usage, type Settings } from './settings.ts';

const log = (line: string) => console.log(line);
const exitCodeLost = 75;

let settings: Settings;
try {
  settings = readSettings(process.argv.slice(2), process.env);
} catch (thrown) {
  console.error(thrown instanceof Error ? thrown.message : thrown);
  console.error(usage);
  process.exit(2);
}

const over = Promise.withResolvers<Readonly<{ code: number; why: string }>>();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => over.resolve({ code: 0, why: signal }));

let right: Right;
try {
  right = await acquire({
    ...settings,
    onLost: (why) => over.resolve({ code: exitCodeLost, why }),
    onTrouble: (what) => console.error(what),
  });
} catch (thrown) {
  console.error(thrown instanceof Error ? thrown.message : thrown);
  process.exit(1);
}

const { lease } = right;
const proxy = createProxy({
  connect: (target, signal) =>
    connect({ lease, ...target, signal, timeoutMs: settings.connect_timeout_s * 1_000, allowHalfOpen: true }),
  idle_ms: settings.idle_s * 1_000,
  tunnels_max: settings.tunnels_max,
  log,
});
proxy.server.on('error', (error) => over.resolve({ code: 1, why: error.message }));
proxy.server.listen(settings.listen.port, settings.listen.host, () =>
  log(
    `ready: ${settings.listen.host}:${settings.listen.port} leaves from ${lease.address}:${formatPorts(lease.ports)} (${lease.id})`,
  ),
);

const { code, why } = await over.promise;
console.error(`stopping: ${why}`);
// The ports are given back only when nothing uses them any more.
proxy.server.close();
proxy.cutTunnels();
if (code === 0) await right.giveBack().catch((error: unknown) => console.error(error));
process.exit(code);
