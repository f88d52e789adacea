/** The demo's steps, inside the host's namespace; started by main.ts, which cleans up after it. */
import { labOf } from './lab.ts';
import { Step, type StepResult } from './report.ts';
import { agentKilled } from './steps/agent-killed.ts';
import { attribution } from './steps/attribution.ts';
import { kernelNat } from './steps/kernel-nat.ts';
import { revocation } from './steps/revocation.ts';
import { sideBySide } from './steps/side-by-side.ts';
import { strangers } from './steps/strangers.ts';
import { throughFish } from './steps/through-fish.ts';
import { World } from './world.ts';

const [folder = '', demoPrefix = '', natPrefix = '', ...flags] = process.argv.slice(2);
const asJson = flags.includes('--json');
const print = (line: string) => {
  if (!asJson) console.log(line);
};
const startedAt = performance.now();
const seconds = () => Math.round((performance.now() - startedAt) / 100) / 10;

/** What `--json` prints. */
export type DemoReport = Readonly<{
  held: boolean;
  seconds: number;
  /** Packets that the capture missed; claims about all of them need 0. */
  capture_missed: number | null;
  steps: readonly StepResult[];
}>;

const steps: readonly (readonly [string, (step: Step, world: World) => Promise<void>])[] = [
  ['A client reaches the origin through fish', throughFish],
  ['Fish and two proxies share one address, fish and one of them the same ports', sideBySide],
  ['Strangers take ports that are not theirs', strangers],
  [
    "Without Fishery: the kernel's own NAT and a socket on one slice",
    (step) => kernelNat(step, labOf(natPrefix), folder),
  ],
  ['An operator revokes a lease that is in use', revocation],
  ['Who sent what? Asked for everything in the capture', attribution],
  ['The agent is killed, and comes back', agentKilled],
];

const results: StepResult[] = [];
let missed: number | null = null;
print('Building the lab, starting server, agent, HAProxy and the CONNECT proxy …');
const world = await World.start(folder, labOf(demoPrefix)).catch((thrown: unknown) => {
  const step = new Step(0, 'Everything is started', print);
  step.failed(thrown);
  results.push(step.result());
});
if (world) {
  print(`… ${seconds()} s`);
  for (const [index, [title, act]] of steps.entries()) {
    const step = new Step(index + 1, title, print);
    await act(step, world).catch((thrown: unknown) => step.failed(thrown));
    results.push(step.result());
  }
  missed = await world.capture.stop();
}

const held = world !== undefined && missed === 0 && results.every((result) => result.held);
const report: DemoReport = { held, seconds: seconds(), capture_missed: missed, steps: results };
if (asJson) console.log(JSON.stringify(report, null, 2));
const failed = results.filter((result) => !result.held).map(({ number }) => number);
print(
  held
    ? `\nAll ${results.length} steps held, in ${seconds()} s.`
    : `\nNOT held: ${failed.length > 0 ? `step ${failed.join(', ')}` : `the capture missed ${missed} packets`}. (${seconds()} s)`,
);
process.exit(held ? 0 : 1);
