/** What `npm run bench` runs: every suite, or the suites and single figures named; `--json` prints a line for each figure. */
import { parseArgs } from 'node:util';
import { rounded, type Figure } from './figures.ts';
import type { Suite } from './suite.ts';
import { agent } from './suites/agent.ts';
import { fish } from './suites/fish.ts';
import { grants } from './suites/grants.ts';
import { keepalive } from './suites/keepalive.ts';
import { postgres } from './suites/postgres.ts';
import { push } from './suites/push.ts';
import { scale } from './suites/scale.ts';

const suites: Readonly<Record<string, Suite>> = { grants, scale, keepalive, push, postgres, agent, fish };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
});
const names = positionals.length > 0 ? positionals : Object.keys(suites);
const suiteOf = (name: string): string => name.split('.', 1)[0] ?? '';
const unknown = names.filter((name) => !(suiteOf(name) in suites));
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) console.error(`there is no suite ${unknown.join(', ')}`);
  console.error(
    `usage: npm run bench -- [--json] [SUITE | SUITE.FIGURE …]   suites: ${Object.keys(suites).join(', ')}`,
  );
  process.exit(values.help ? 0 : 2);
}
for (const suite of new Set(names.map(suiteOf))) {
  const isWanted = (figure: string) =>
    names.some((name) => name === suite || figure === name || figure.startsWith(`${name}.`));
  for await (const figure of suites[suite]?.([], isWanted) ?? [])
    if (isWanted(figure.name)) console.log(values.json ? JSON.stringify(trimmed(figure)) : row(figure));
}

function trimmed({ value, peer, range: [low, high], ...rest }: Figure): Figure {
  return {
    ...rest,
    value: rounded(value),
    peer: peer && { ...peer, value: rounded(peer.value) },
    range: [rounded(low), rounded(high)],
  };
}

function row({ name, value, unit, peer, rounds, range }: Figure): string {
  const [low, high] = range.map(rounded);
  const spread = rounds > 1 ? `  (${low} … ${high}, ${rounds} rounds)` : '';
  const beside = peer === null ? '' : `  beside ${rounded(peer.value)} ${peer.unit}: ${peer.name}`;
  return `${name.padEnd(24)}${String(rounded(value)).padStart(10)} ${unit}${spread}${beside}`;
}
