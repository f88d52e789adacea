import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DemoReport } from '../../demo/walk.ts';

const program = fileURLToPath(new URL('../../demo/main.ts', import.meta.url));

/** Every claim that the demo makes, by step. One that is missing was not looked into, which is as bad as one that failed. */
const claims: Readonly<Record<number, readonly string[]>> = {
  1: ['file-whole', 'curl', 'ping', 'dig', 'only-leased'],
  2: ['same-block', 'files-whole', 'many-answered', 'own-leases', 'no-collision', 'shared-at-once', 'port-used-twice'],
  3: [
    ...['fish-port-udp', 'fish-port-tcp-explicit', 'fish-port-tcp-late'],
    ...['tuple-refused', 'other-destination', 'outsider', 'proxy-port', 'unleased'],
  ],
  4: ['nat-uses-slice', 'socket-believes', 'origin-sees-another'],
  5: ['placeholders', 'cooling', 'placeholders-gone', 'extent', 'refused', 'granted-later', 'flow-ended'],
  6: ['machine', 'holder', 'client', 'candidates'],
  7: [
    ...['killed', 'proxies-go-on', 'guard-closes', 'leases-kept', 'proxies-survive'],
    ...['fish-flows-survive', 'fish-again', 'no-reset'],
  ],
};

const namespaces = () =>
  spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter((line) => line.startsWith('fishery-demo-'));

describe('npm run demo', () => {
  let report: DemoReport;
  let exitCode: number | null;
  let demo: ChildProcess | undefined;

  beforeAll(async () => {
    const child = spawn(process.execPath, [program, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
    demo = child;
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    exitCode = await new Promise<number | null>((done) => child.on('close', done));
    report = JSON.parse(output) as DemoReport;
  }, 180_000);

  // It cleans up after itself when it is told to end; without effect on one that has ended.
  afterAll(() => {
    demo?.kill('SIGTERM');
  });

  for (const [number, ids] of Object.entries(claims))
    for (const id of ids)
      it(`step ${number}: ${id}`, () => {
        const fact = report.steps.find((step) => step.number === Number(number))?.facts.find((each) => each.id === id);
        expect(fact, JSON.stringify(fact)).toMatchObject({ id, held: true });
      });

  it('looks into nothing else, and ends with 0', () => {
    const found = report.steps.map(({ number, facts }) => [number, facts.map(({ id }) => id)]);
    expect(Object.fromEntries(found)).toEqual(claims);
    expect(report).toMatchObject({ held: true, capture_missed: 0 });
    expect(exitCode).toBe(0);
  });

  it('shows the evidence: ports on the wire, errnos, counters', () => {
    const evidence = report.steps.flatMap(({ facts }) => facts.flatMap((fact) => fact.evidence)).join('\n');
    expect(evidence).toMatch(/the capture at the origin shows 198\.51\.100\.10:\d+/);
    expect(evidence).toMatch(/bind\(\) on 198\.51\.100\.10:\d+\/udp: EADDRINUSE/);
    expect(evidence).toMatch(/send\(\): EPERM; counter guard_uid \+[1-9]/);
    expect(evidence).toMatch(/counter guard_dead \+[1-9]/);
  });

  it('leaves nothing behind', () => {
    expect(namespaces()).toEqual([]);
  });
});
