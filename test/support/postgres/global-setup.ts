import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestProject } from 'vitest/node';
import pg from 'pg';
import { openPostgresStore } from '../../../src/db/postgres/open.ts';
import { postgresObstacle } from './binaries.ts';

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
  const keeper = spawn(process.execPath, [join(import.meta.dirname, 'keeper.ts')], { stdio: ['pipe', 'pipe', 'pipe'] });
  const exited = new Promise<void>((resolve) => keeper.on('exit', () => resolve()));
  const said: string[] = [];
  keeper.stderr.setEncoding('utf8').on('data', (text: string) => said.push(text));
  const line = await Promise.race([
    new Promise<string>((resolve) => createInterface(keeper.stdout).once('line', resolve)),
    exited.then(() => Promise.reject(new Error(`PostgreSQL did not start:\n${said.join('')}`))),
  ]);
  const { url } = JSON.parse(line) as { url: string };
  project.provide('postgresUrl', url);
  await makeTemplate(url);
  return async () => {
    keeper.stdin.end();
    await exited;
  };
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
