import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * What takes longest begins first, so that nobody is left to it alone in the end. Vitest goes by what it measured last
 * time, and on a fresh clone by the size of files; these are the files whose size says least about their time.
 */
const long = [
  'test/kernel/soak.test.ts',
  'test/kernel/agent-fence-horizon.test.ts',
  'test/kernel/agent-steering.test.ts',
  'test/kernel/agent-leases.test.ts',
  'test/kernel/agent-restart.test.ts',
  'test/fish/model.test.ts',
  'test/broker/cut-verbs.test.ts',
  'test/cli/server.test.ts',
  'test/cli/tls.test.ts',
  'test/package.test.ts',
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => long.some((path) => moduleId.endsWith(`/${path}`));
    const sorted = await super.sort(files);
    // Projects are taken one after the other as they stand: each keeps its place.
    const projects = [...new Set(sorted.map(({ project }) => project))];
    return projects.flatMap((project) => {
      const own = sorted.filter((file) => file.project === project);
      return [...own.filter(isLong), ...own.filter((file) => !isLong(file))];
    });
  }
}
