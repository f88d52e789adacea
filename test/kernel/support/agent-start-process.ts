/**
 * Tries to start an agent twice where it cannot work, once refused and once by a failure in the middle of its start, and
 * says what that left behind, as a line of JSON. Argument: its configuration, with a state folder where no socket can be made.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { pino } from 'pino';
import { agentSettings } from '../../../src/agent/settings/settings.ts';
import { startAgent, type StartOptions } from '../../../src/agent/start/start-agent.ts';

const [config = ''] = process.argv.slice(2);
const { agent } = JSON.parse(readFileSync(config, 'utf8')) as { agent: unknown };
const settings = agentSettings.parse(agent);
const locks = () => readdirSync('/run/fishery').filter((name) => name.endsWith('.lock'));
const descriptors = () => readdirSync('/proc/self/fd').length;

const options: StartOptions = {
  ...{ settings, machine: 'edge', token: () => 'none', version: 'test' },
  log: pino({ level: 'silent' }),
};
async function attempt(o: StartOptions) {
  const before = locks();
  const outcome = await startAgent(o).then(
    (started) => (started.ok ? 'it runs' : started.error),
    (error: unknown) => String(error),
  );
  return { outcome, locks: locks().filter((name) => !before.includes(name)), descriptors: descriptors() };
}
const broken = pino({
  hooks: {
    logMethod() {
      throw new Error('the log cannot be written');
    },
  },
});
// Whatever is opened once and stays, libraries and the like, is there after the first.
await attempt(options);
const open = descriptors();
const attempts = [await attempt(options), await attempt({ ...options, log: broken }), await attempt(options)];
console.log(JSON.stringify({ open, attempts }));
process.exit(0);
