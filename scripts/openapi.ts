/**
 * What `npm run openapi` runs: writes the documents that are made of the source: openapi/openapi.json, docs/errors.md,
 * docs/doctor.md and packaging/config.schema.json. Tests compare them with what is committed.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildApp } from '../src/api/app.ts';
import { errorsMarkdown } from '../src/api/error-pages.ts';
import { openApiText } from '../src/api/openapi.ts';
import { defaultLimits } from '../src/api/parts.ts';
import { commands } from '../src/cli/commands.ts';
import { configSchema } from '../src/cli/config-schema.ts';
import { openSqliteStore } from '../src/db/sqlite/open.ts';
import { doctorMarkdown } from '../src/doctor/page.ts';
import { Feed } from '../src/feed/feed.ts';
import { LeaseService } from '../src/leases/lease-service.ts';
import { SteadyClock } from '../src/ops/clock.ts';
import { createLogger } from '../src/ops/logger.ts';
import { packageVersion } from '../src/ops/version.ts';

const root = join(import.meta.dirname, '..');

/** The document of the routes as they are registered, so of the app itself, over a database that nobody needs. */
async function documentOfRoutes(): Promise<object> {
  const directory = mkdtempSync(join(tmpdir(), 'fishery-openapi-'));
  const store = await openSqliteStore({ directory, newEpoch: () => 'none', nowUs: () => 0 });
  const clock = new SteadyClock();
  const app = buildApp({
    leases: new LeaseService({ store, clock }),
    reader: store.reader,
    feed: new Feed({ log: store.reader }),
    clock,
    logger: createLogger({ level: 'error' }),
    version: packageVersion(),
    randomBytes,
    metricsOpen: true,
    processMetrics: false,
    limits: defaultLimits,
  });
  try {
    await app.ready();
    return app.openApi();
  } finally {
    await app.close();
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

function write(path: string, text: string): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), text);
  console.log(`wrote ${path}`);
}

write('openapi/openapi.json', openApiText(await documentOfRoutes()));
write('docs/errors.md', errorsMarkdown());
write('docs/doctor.md', doctorMarkdown());
write('packaging/config.schema.json', `${JSON.stringify(await configSchema(commands), null, 2)}\n`);
