import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { FisheryClient } from '../../src/sdk/index.ts';
import { runRouter } from './router.ts';

const usage = `usage: main.ts --router NAME --token-file FILE [--server URL] [--file FILE] [--pool NAME] [--select LABELS]
Keeps the routes of Fishery in nftables. With --file the last file is also kept there, for the next boot.`;

const { values } = parseArgs({
  options: {
    router: { type: 'string' },
    'token-file': { type: 'string' },
    server: { type: 'string', default: 'http://127.0.0.1:7480' },
    file: { type: 'string' },
    pool: { type: 'string' },
    select: { type: 'string' },
  },
});
const { router, 'token-file': tokenFile, server, file, pool, select } = values;
if (router === undefined || tokenFile === undefined) {
  console.error(usage);
  process.exit(2);
}

const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());
const log = (line: string) => console.log(`${new Date().toISOString()} ${line}`);

try {
  await runRouter({
    client: new FisheryClient({ url: server, token: readFileSync(tokenFile, 'utf8').trim() }),
    router,
    filter: { ...(pool === undefined ? {} : { pool }), ...(select === undefined ? {} : { select }) },
    install,
    log,
    signal: stop.signal,
  });
} catch (error) {
  log(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}

/** One transaction of the kernel: packets see the routes of before, or these. */
async function install(text: string): Promise<void> {
  const nft = spawn('nft', ['-f', '-'], { stdio: ['pipe', 'inherit', 'pipe'] });
  let complaint = '';
  nft.stderr.setEncoding('utf8').on('data', (part: string) => (complaint += part));
  const code = await new Promise<number | null>((resolve, reject) => {
    nft.on('error', reject).on('close', resolve);
    // A program that ends before it has read everything says why on its standard error.
    nft.stdin.on('error', () => {}).end(text);
  });
  if (code !== 0) throw new Error(`nft refused the file: ${complaint.trim().split('\n')[0] ?? `exit code ${code}`}`);
  if (file === undefined) return;
  // Whole or not at all, also for whoever reads it in this moment.
  await writeFile(`${file}.new`, text, { mode: 0o644 });
  await rename(`${file}.new`, file);
}
