#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { pinnedNode, runNode } from './pinned-node.mjs';

// In a checkout the program is TypeScript that Node.js 24 runs as it is; an older Node.js hands over to the pinned one.
// A package has it compiled, and the program itself says which of its commands need a newer Node.js.
const nodeMajorMin = 24;
const program = new URL('../src/bin/fishery.ts', import.meta.url);
const compiled = new URL('../dist/bin/fishery.js', import.meta.url);

if (!existsSync(program)) {
  await import(compiled.href);
} else if (Number(process.versions.node.split('.')[0]) >= nodeMajorMin) {
  await import(program.href);
} else if (existsSync(pinnedNode)) {
  process.exit(await runNode(pinnedNode, [fileURLToPath(program), ...process.argv.slice(2)]));
} else {
  console.error(
    `fishery: needs Node.js ${nodeMajorMin} or newer, this is ${process.versions.node}. ` +
      'Run "npm ci" in the checkout once: it brings the right one along.',
  );
  process.exit(1);
}
