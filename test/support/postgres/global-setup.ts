import type { TestProject } from 'vitest/node';
import pg from 'pg';
import { openPostgresStore } from '../../../src/db/postgres/open.ts';
import { postgresObstacle } from './binaries.ts';
import { keep, type Kept } from './kept.ts';

export const templateName = 'fishery_template';

declare module 'vitest' {
  interface ProvidedContext {
    /** Of a superuser, on the database `postgres` of the run's own server. */
    postgresUrl: string;
  }
}

/** One server for all tests of the project; it lives as long as the pipe to its keeper is open. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const obstacle = postgresObstacle();
  if (obstacle !== undefined) throw new Error(`the tests on PostgreSQL cannot run here: ${obstacle}`);
  const { said, end } = await keep();
  const { url } = JSON.parse(said) as Kept;
  project.provide('postgresUrl', url);
  await makeTemplate(url);
  return end;
}

/** What most tests begin with: the tables, and nothing in them. A copy is made faster than the tables are. */
async function makeTemplate(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`CREATE DATABASE ${templateName}`);
  await client.end();
  const template = new URL(url);
  template.pathname = `/${templateName}`;
  const store = await openPostgresStore({ url: template.href, newEpoch: () => 'epoch-1' });
  await store.close();
}
