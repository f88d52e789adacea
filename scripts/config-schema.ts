/** Writes packaging/config.schema.json from the settings of the commands. A test compares it with what is committed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commands } from '../src/cli/commands.ts';
import { configSchema } from '../src/cli/config-schema.ts';

const file = join(import.meta.dirname, '..', 'packaging/config.schema.json');
writeFileSync(file, `${JSON.stringify(await configSchema(commands), null, 2)}\n`);
console.log('wrote packaging/config.schema.json');
