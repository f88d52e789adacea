import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { violations, type Rules } from './support/architecture.ts';
import { filesUnder, root } from './support/tree.ts';

/**
 * Who may import whom. The server (api, db, feed) and what talks to it (agent, cli) share values (net) and the contract
 * (wire), nothing else, so that each can change without a thought for the other. bin joins everything.
 */
const rules: Rules = {
  arrows: {
    net: [],
    ops: [],
    sys: ['net'],
    fish: ['net'],
    keeper: ['net', 'sys'],
    terminate: ['net', 'sys', 'sdk', 'fish'],
    leases: ['net'],
    wire: ['net'],
    db: ['leases', 'net'],
    'db/directory.ts': ['leases', 'ops'],
    engine: ['db', 'leases', 'net', 'ops'],
    feed: ['leases'],
    api: ['feed', 'leases', 'wire', 'net', 'type ops'],
    sdk: ['wire', 'net'],
    'sdk/connect.ts': ['wire', 'net', 'sys'],
    broker: ['api', 'engine', 'feed', 'leases', 'wire', 'net', 'sys', 'ops'],
    agent: ['broker', 'sdk', 'wire', 'net', 'sys', 'fish', 'keeper', 'terminate', 'ops'],
    doctor: ['agent', 'terminate', 'sdk', 'wire', 'net', 'sys', 'ops'],
    cli: ['sdk', 'wire', 'net', 'ops', 'agent', 'doctor'],
    'cli/commands/keeper.ts': ['agent', 'keeper', 'ops', 'cli'],
    'cli/commands/terminator.ts': ['agent', 'keeper', 'terminate', 'ops', 'cli'],
    'cli/hold/bind.ts': ['sys', 'net', 'wire'],
    'cli/store-settings.ts': ['db', 'leases'],
    'cli/commands/migrate.ts': ['db', 'cli'],
    'cli/commands/check.ts': ['db', 'cli'],
    'cli/commands/dump.ts': ['db', 'leases', 'cli'],
    'cli/commands/restore.ts': ['db', 'cli'],
    'cli/commands/server.ts': ['api', 'engine', 'feed', 'leases', 'ops', 'cli'],
    bin: ['*'],
  },
  libraries: {
    fastify: ['api', 'broker'],
    'fastify-plugin': ['api'],
    '@fastify/*': ['api'],
    'drizzle-orm': ['db'],
    'better-sqlite3': ['db'],
    pg: ['db'],
    koffi: ['sys'],
    commander: ['cli', 'bin'],
    pino: ['ops'],
    undici: ['sdk'],
    yaml: ['ops'],
  },
  pure: ['net', 'leases', 'fish'],
  surroundings: ['bin'],
};

describe('the source tree', () => {
  const sources = filesUnder('src').filter((path) => path.endsWith('.ts'));

  it('keeps to the arrows', () => {
    expect(sources).toContain('src/net/ports.ts');
    const found = sources.flatMap((path) => violations(rules, path, readFileSync(join(root, path), 'utf8')));
    expect(found).toEqual([]);
  });
});

describe('the checker', () => {
  it.each([
    ['a static import', `import { grant } from '../leases/grant.ts';`],
    ['a type import', `import type { Lease } from '../leases/model.ts';`],
    ['an import for its effects', `import '../leases/model.ts';`],
    ['a re-export', `export * from '../leases/model.ts';`],
    ['a dynamic import', `const m = await import('../leases/model.ts');`],
    ['a dynamic import in a template', 'const m = await import(`../leases/model.ts`);'],
    ['a type in import() form', `let lease: import('../leases/model.ts').Lease;`],
    ['an import over several lines', `import {\n  grant,\n} from '../leases/grant.ts';`],
  ])('sees %s against the arrows', (_form, source) => {
    expect(violations(rules, 'src/wire/made-up.ts', source)).toEqual([
      expect.stringContaining('wire must not import leases'),
    ]);
  });

  it('names file and line', () => {
    const source = `// one\n// two\nimport '../db/open.ts';`;
    expect(violations(rules, 'src/api/made-up.ts', source)).toEqual([
      'src/api/made-up.ts:3: api must not import db (../db/open.ts)',
    ]);
  });

  it('is content with imports along the arrows, within a folder, and in comments and strings', () => {
    const source = `
      // import { open } from '../db/open.ts';
      import { parsePorts } from '../net/ports.ts';
      import { other } from './other.ts';
      const text = "import '../db/open.ts'";`;
    expect(violations(rules, 'src/leases/made-up.ts', source)).toEqual([]);
  });

  it.each([
    [`import type { Logger } from '../ops/logger.ts';`, 0],
    [`import { type Logger } from '../ops/logger.ts';`, 0],
    [`import { createLogger } from '../ops/logger.ts';`, 1],
    [`import { createLogger, type Logger } from '../ops/logger.ts';`, 1],
  ])('tells types from values where only types are allowed: %s', (source, count) => {
    expect(violations(rules, 'src/api/made-up.ts', source)).toHaveLength(count);
  });

  it('lets a single file have a row of its own', () => {
    const source = `import { connect } from '../sys/sockets.ts';`;
    expect(violations(rules, 'src/sdk/connect.ts', source)).toEqual([]);
    expect(violations(rules, 'src/sdk/client.ts', source)).toHaveLength(1);
  });

  it.each([
    ['src/leases/x.ts', `import fastify from 'fastify';`],
    ['src/leases/x.ts', `import { fastifySSE } from '@fastify/sse';`],
    ['src/api/x.ts', `import { eq } from 'drizzle-orm';`],
    ['src/api/x.ts', `import { drizzle } from 'drizzle-orm/better-sqlite3';`],
    ['src/agent/x.ts', `import koffi from 'koffi';`],
    ['src/agent/x.ts', `import { Command } from 'commander';`],
    ['src/api/x.ts', `import type { Database } from 'better-sqlite3';`],
  ])('keeps libraries in their folder: %s, %s', (path, source) => {
    expect(violations(rules, path, source)).toEqual([expect.stringContaining(' belongs in ')]);
  });

  it.each(['net', 'leases', 'fish'])('keeps clock, randomness and I/O out of %s', (folder) => {
    const source = `
      import { readFileSync } from 'node:fs';
      import { join } from 'path';
      const now = Date.now() + performance.now() + new Date().getTime() + Math.random();
      const instant = new Date(0);`;
    expect(violations(rules, `src/${folder}/made-up.ts`, source)).toEqual([
      expect.stringContaining('node:fs'),
      expect.stringContaining('path'),
      expect.stringContaining('Date.now'),
      expect.stringContaining('performance.now'),
      expect.stringContaining('new Date()'),
      expect.stringContaining('Math.random'),
    ]);
    expect(violations(rules, 'src/ops/made-up.ts', source)).toEqual([]);
  });

  it('lets only bin look at the environment and the arguments', () => {
    const source = `const { HOME } = process.env; const args = process.argv;`;
    expect(violations(rules, 'src/agent/made-up.ts', source)).toHaveLength(2);
    expect(violations(rules, 'src/bin/made-up.ts', source)).toEqual([]);
  });

  it('asks for a row for every new folder', () => {
    expect(violations(rules, 'src/novel/made-up.ts', '')).toEqual([expect.stringContaining('no row')]);
  });

  it('refuses an import whose target it cannot know', () => {
    expect(violations(rules, 'src/bin/made-up.ts', 'await import(name)')).toEqual([
      'src/bin/made-up.ts:1: import(name) cannot be checked: name the file',
    ]);
  });
});
