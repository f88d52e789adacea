import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { runFishery } from '../support/run-fishery.ts';

const folder = mkdtempSync(join(tmpdir(), 'fishery-lines-'));
const file = join(folder, 'agent.yaml');
afterAll(() => rmSync(folder, { recursive: true }));

const lines = (...text: readonly string[]) => `${text.join('\n')}\n`;

it.each([
  [
    'an unknown key',
    lines('agent:', '  machine: edge-1', '  uplink: eth0'),
    'agent.uplink in FILE:3: is not a setting',
  ],
  ['a wrong type', lines('agent:', '  # why', '  keep: 12'), 'agent.keep in FILE:3: got 12, expected true or false'],
  [
    'something deep inside',
    lines('agent:', '  uplinks: [eth0]', '  fish:', '    client_prefixes:', '      - 100.64.0.0/33', '    claims: []'),
    'agent.fish in FILE:5 (at fish.client_prefixes[0])',
  ],
  [
    'an unknown key deep inside',
    lines(
      'agent:',
      '  uplinks: [eth0]',
      '  fish:',
      '    client_prefixes: [100.64.0.0/10]',
      '    claims: [{ ports: 1 }]',
      '    flows: 1',
    ),
    'agent.fish in FILE:6: ',
  ],
  [
    'an unknown section',
    lines('server:', '  port: 1', 'agnet:', '  keep: true'),
    'config file FILE: line 3: has no use for "agnet"',
  ],
  ['what is no YAML', lines('agent:', '  machine: [', ''), 'config file FILE: is not valid YAML or JSON: '],
  ['JSON', '{\n "agent": {\n  "keep": 1 } }', 'agent.keep in FILE:3: got 1'],
])('names the line of %s', async (_what, text, says) => {
  writeFileSync(file, text);
  const ran = await runFishery(['agent', '--config', file]);
  expect(ran.code).toBe(2);
  expect(ran.err.replaceAll(file, 'FILE')).toContain(`fishery agent: ${says}`);
});
