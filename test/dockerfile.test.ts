import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commands } from '../src/cli/commands.ts';
import { settingFields } from '../src/ops/setting-fields.ts';
import { aptPackages, parseDockerfile, Replay, type Image } from './support/dockerfile.ts';
import { root } from './support/tree.ts';

const stages = parseDockerfile(readFileSync(join(root, 'Dockerfile'), 'utf8'));
const read = (path: string) => readFileSync(join(root, path), 'utf8');

describe('the Dockerfile', () => {
  it('builds the server unless told otherwise', () => {
    expect(stages.at(-1)?.name).toBe('server');
  });

  it('starts from the Node.js that the lockfile pins', () => {
    const manifest = JSON.parse(read('package.json')) as { devDependencies: { node: string } };
    const images = stages.map(({ base }) => base).filter((base) => !stages.some(({ name }) => name === base));
    expect([...new Set(images)]).toEqual([`node:${manifest.devDependencies.node.split('.')[0]}-bookworm-slim`]);
  });

  it('installs only Debian packages that scripts/setup-debian knows', () => {
    const known = [...read('scripts/setup-debian').matchAll(/^ {2}'(\S+) /gm)].map(([, name]) => name);
    const used = stages.flatMap(({ steps }) => steps.flatMap(({ text }) => aptPackages(text)));
    expect(used).toEqual(['nftables', 'iproute2']);
    expect(known).toEqual(expect.arrayContaining(used));
  });
});

/** One that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** How a container would be started from the image, with its paths inside the image's folder. */
function container(image: Image, overrides: Record<string, string>) {
  const inside = (value: string) => (image.volumes.includes(value) ? join(image.folder, value) : value);
  const env = Object.fromEntries(Object.entries(image.env).map(([name, value]) => [name, inside(value)]));
  const command = (words: readonly string[]) => {
    const [program, ...args] = words;
    expect(program).toBe('node');
    return args;
  };
  return { cwd: join(image.folder, image.workdir), env: { ...env, ...overrides }, command };
}

describe('the images', () => {
  const replay = new Replay({ context: root, stages });
  let server: Image;
  let agent: Image;
  beforeAll(async () => {
    server = await replay.build('server');
    agent = await replay.build('agent');
  }, 300_000);
  afterAll(() => replay[Symbol.dispose]());

  it('hold no development dependency and no test', () => {
    const has = (path: string) => existsSync(join(server.folder, server.workdir, path));
    expect(['node_modules/fastify', 'node_modules/koffi', 'src/bin/fishery.ts'].filter(has)).toHaveLength(3);
    expect(['node_modules/node', 'node_modules/vitest', 'node_modules/eslint', 'test', 'scripts'].filter(has)).toEqual(
      [],
    );
  });

  it('name in ENV only variables that the command knows', async () => {
    const entry = commands.find(({ name }) => name === server.command[0]);
    const fields = entry && 'load' in entry ? settingFields((await entry.load()).settings) : [];
    const named = Object.keys(server.env).filter((name) => name.startsWith('FISHERY_'));
    expect(fields.map(({ env }) => env)).toEqual(expect.arrayContaining(named));
  });

  it('run the server as nobody special: it becomes healthy, says so to the health check, and ends when asked', async () => {
    expect([server.user, server.volumes]).toEqual(['node', ['/var/lib/fishery']]);
    const port = String(await freePort());
    const { cwd, env, command } = container(server, { FISHERY_PORT: port, FISHERY_ALLOW_PLAIN_HTTP: 'true' });
    const args = command([...server.entrypoint, ...server.command]);
    const child = spawn(process.execPath, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += String(chunk)));
    const ended = once(child, 'exit');
    const isHealthy = () => spawnSync(process.execPath, command(server.healthcheck), { cwd, env }).status === 0;
    try {
      await expect.poll(() => child.exitCode !== null || isHealthy(), { timeout: 20_000, interval: 200 }).toBe(true);
      expect(child.exitCode, said).toBeNull();
      const answer = await fetch(`http://127.0.0.1:${port}/healthz`);
      expect(answer.status).toBe(200);
      child.kill('SIGTERM');
      expect(await ended, said).toEqual([0, null]);
      expect(isHealthy()).toBe(false);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('keep what has to outlive the container', () => {
    expect([server.volumes, agent.volumes]).toEqual([['/var/lib/fishery'], ['/var/lib/fishery']]);
  });

  it('run the agent', () => {
    const { cwd, env, command } = container(agent, {});
    const args = command([...agent.entrypoint, ...agent.command, '--help']);
    const ran = spawnSync(process.execPath, args, { cwd, env, encoding: 'utf8' });
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toContain('Usage: fishery agent');
  });
});
