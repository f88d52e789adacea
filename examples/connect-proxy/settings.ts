import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

export type Settings = Readonly<{
  server: string;
  token: string;
  machine: string;
  holder: string;
  ports: number;
  ttl_s: number;
  listen: Readonly<{ host: string; port: number }>;
  connect_timeout_s: number;
  idle_s: number;
  tunnels_max: number;
}>;

/** Each is a flag, `--token-file`, or a variable in the environment, `CONNECT_PROXY_TOKEN_FILE`; the flag wins. */
const defaults = {
  server: 'http://127.0.0.1:7480',
  'token-file': '',
  machine: '',
  holder: 'connect-proxy',
  ports: '128',
  'ttl-s': '30',
  listen: '127.0.0.1:3128',
  'connect-timeout-s': '10',
  'idle-s': '300',
  'tunnels-max': '1000',
} as const;

export const usage = `connect-proxy: ${Object.entries(defaults)
  .map(([flag, value]) => `--${flag} ${value === '' ? '(required)' : value}`)
  .join(' ')}`;

/** Throws with one line that says what is wrong. */
export function readSettings(args: readonly string[], env: NodeJS.ProcessEnv): Settings {
  const { values } = parseArgs({
    args: [...args],
    options: Object.fromEntries(Object.keys(defaults).map((flag) => [flag, { type: 'string' as const }])),
  });
  const text = (flag: keyof typeof defaults): string => {
    const given = values[flag] ?? env[`CONNECT_PROXY_${flag.replaceAll('-', '_').toUpperCase()}`] ?? defaults[flag];
    if (typeof given !== 'string' || given === '') throw new Error(`--${flag} is required`);
    return given;
  };
  const count = (flag: keyof typeof defaults, min = 1): number => {
    const value = Number(text(flag));
    if (!Number.isInteger(value) || value < min)
      throw new Error(`--${flag}: expected a whole number from ${min} on, got "${text(flag)}"`);
    return value;
  };
  const listen = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(text('listen'));
  const host = listen?.[1] ?? listen?.[2];
  if (host === undefined) throw new Error(`--listen: expected host:port, got "${text('listen')}"`);
  return {
    server: text('server'),
    token: readFileSync(text('token-file'), 'utf8').trim(),
    machine: text('machine'),
    holder: text('holder'),
    ports: count('ports'),
    ttl_s: count('ttl-s', 2),
    listen: { host, port: Number(listen?.[3]) },
    connect_timeout_s: count('connect-timeout-s'),
    idle_s: count('idle-s'),
    tunnels_max: count('tunnels-max'),
  };
}
