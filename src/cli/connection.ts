import { z } from 'zod';
import { certificateSettings } from '../ops/certificate-settings.ts';
import { readSecretFile, type Environment } from '../ops/settings.ts';
import { FisheryClient, localCodes, socketPathOf, tlsFilesOf, type FisheryError } from '../sdk/index.ts';
import { exitCodes } from './command.ts';

/** How every verb finds its server; in the file these are the settings of a profile. */
export const connectionSettings = z.strictObject({
  server: z
    .string()
    .default('http://127.0.0.1:7480')
    .meta({ description: 'Address of the Fishery server, or unix: and the path of the socket of this host’s broker' }),
  token_file: z.string().optional().meta({ description: 'File with the access token' }),
  ...certificateSettings,
  timeout_s: z
    .number()
    .min(0.1)
    .max(600)
    .default(10)
    .meta({ description: 'How long to wait for an answer, in seconds' }),
});
export type ConnectionSettings = z.output<typeof connectionSettings>;

/** A client by these settings; or, as text, what is wrong with them. The token is in a file or in FISHERY_TOKEN: never a flag, which `ps` shows. */
export function clientOf(
  settings: ConnectionSettings,
  env: Environment,
  more: Readonly<{ attemptsMax?: number }> = {},
): FisheryClient | string {
  const { server: url, token_file: file, timeout_s } = settings;
  const isBroker = socketPathOf(url) !== undefined;
  const secret = file === undefined ? { ok: true as const, value: env['FISHERY_TOKEN'] ?? '' } : readSecretFile(file);
  if (!secret.ok) return `token_file: ${secret.problem}`;
  if (secret.value === '' && !isBroker)
    return 'no access token: set --token-file, FISHERY_TOKEN_FILE, FISHERY_TOKEN or token_file in a profile';
  try {
    return new FisheryClient({
      url,
      token: secret.value.trim(),
      tls: tlsFilesOf(settings),
      timeoutMs: timeout_s * 1_000,
      ...more,
    });
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    return cause.message;
  }
}

const byStatus: Readonly<Record<number, number>> = {
  400: exitCodes.usage,
  401: exitCodes.unauthorised,
  403: exitCodes.unauthorised,
  404: exitCodes.notFound,
  405: exitCodes.usage,
  406: exitCodes.usage,
  408: exitCodes.timedOut,
  409: exitCodes.refused,
  410: exitCodes.refused,
  412: exitCodes.refused,
  413: exitCodes.usage,
  414: exitCodes.usage,
  415: exitCodes.usage,
  422: exitCodes.refused,
  428: exitCodes.usage,
  429: exitCodes.unreachable,
  431: exitCodes.usage,
  502: exitCodes.unreachable,
  503: exitCodes.unreachable,
  504: exitCodes.timedOut,
};

/** Refusals with a status (503) that also tells of a server which cannot serve: this one can, and will not as things are. */
const refusals: ReadonlySet<string> = new Set([
  'no_ports',
  'ports_kept_for_others',
  'no_common_address',
  'read_only_epoch',
]);

export function exitCodeOf({ status, code }: FisheryError): number {
  if (refusals.has(code)) return exitCodes.refused;
  if (status !== null) return byStatus[status] ?? exitCodes.failure;
  return code === localCodes.timeout ? exitCodes.timedOut : exitCodes.unreachable;
}

/** What a person reads of a call that did not succeed: a line for it, and one for every part of the input that is wrong. */
export function linesOf(error: FisheryError): readonly string[] {
  const { problem } = error;
  if (!problem) return [`${error.message} (${error.code})`];
  const request = problem.request_id === undefined ? '' : `, request ${problem.request_id}`;
  const { errors = [] } = problem;
  return [
    `${problem.detail || problem.title} (${problem.code}${request})`,
    // A single one is what the line above says.
    ...(errors.length > 1 ? errors.map(({ path, message }) => `  ${path}: ${message}`) : []),
  ];
}
