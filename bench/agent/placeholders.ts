import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { figureOf, median } from '../figures.ts';
import type { Suite } from '../suite.ts';
import type { PlaceholderRound } from './placeholders-process.ts';

const placeholders_count = 100_000;
const rounds = 5;
const program = fileURLToPath(new URL('placeholders-process.ts', import.meta.url));

/**
 * Ports held one by one for fish: opened, handed to keepers that outlive the agent, and closed there; a hundred thousand live at
 * once, over as many keepers as that takes. Beside them the same sockets without anybody to keep them.
 */
export const placeholders: Suite = async function* () {
  const namespace = `fb-${process.pid}-ports`;
  const run = (...args: readonly string[]) => {
    const done = spawnSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    if (done.status !== 0) throw new Error(`ip ${args.join(' ')} ended with ${done.status}`);
    return done.stdout;
  };
  run('netns', 'add', namespace);
  try {
    for (const command of [
      'link set lo up',
      'addr add 198.51.100.10/32 dev lo',
      'addr add 2001:db8::10/128 dev lo nodad',
    ])
      run('-n', namespace, ...command.split(' '));
    const said = run('netns', 'exec', namespace, process.execPath, program, String(placeholders_count), String(rounds));
    const all = said
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as PlaceholderRound);
    const bare = { name: 'the same sockets, kept by nobody', value: median(all.map((each) => each.bare_per_s)) };
    const unit = 'placeholders a second';
    const rates = all.map((each) => each.per_s);
    yield figureOf('agent.placeholders_per_s', unit, rates, { ...bare, unit });
    yield figureOf(
      'agent.placeholder_bytes',
      'bytes of kernel memory each',
      all.map((each) => each.bytes_each),
    );
    yield figureOf(
      'agent.placeholder_keepers',
      `keepers (${all[0]?.implementation}) for ${placeholders_count}`,
      all.map((each) => each.keepers),
    );
  } finally {
    spawnSync('ip', ['netns', 'del', namespace], { stdio: 'ignore' });
  }
};
