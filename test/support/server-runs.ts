import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { ServerProcess } from './server-process.ts';

/** `fishery server` processes of one test on one data directory of its own; what still runs at its end is killed. */
export type ServerRuns = Readonly<{
  /** Where the test may put files of its own. */
  folder: string;
  data: string;
  /** With these arguments and no others. */
  run: (...args: string[]) => ServerProcess;
  /** On the test's data directory and a free port, unless the arguments say otherwise. */
  start: (...args: string[]) => ServerProcess;
  /** The operator's token, which the first start writes. */
  secret: () => string;
}>;

/** To be called at the top of a test file. What it gives is of the test that runs. */
export function serverRuns(): ServerRuns {
  let folder = '';
  let runs: ServerProcess[] = [];
  const data = () => join(folder, 'data');
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fishery-server-'));
    runs = [];
  });
  afterEach(async () => {
    for (const run of runs) run.child.kill('SIGKILL');
    await Promise.all(runs.map(({ ended }) => ended));
    rmSync(folder, { recursive: true });
  });
  const run = (...args: string[]) => {
    const process = new ServerProcess(args);
    runs.push(process);
    return process;
  };
  return {
    get folder() {
      return folder;
    },
    get data() {
      return data();
    },
    run,
    start: (...args) => run('--data-dir', data(), '--port', '0', ...args),
    secret: () => readFileSync(join(data(), 'operator.token'), 'utf8').trim(),
  };
}
