import { z } from 'zod';
import { certificateSettings, type CertificateSettings } from '../../ops/certificate-settings.ts';
import { SecretFile } from '../../ops/secret-file.ts';
import { readSecretFile } from '../../ops/settings.ts';
import { FisheryClient, socketPathOf, tlsFilesOf } from '../../sdk/index.ts';
import { defineCommand, exitCodes } from '../command.ts';
import { whyNotBound } from '../hold/bind.ts';
import { claimsOf } from '../hold/claims.ts';
import { hold } from '../hold/hold.ts';

const settings = z.strictObject({
  server: z.string().default('http://127.0.0.1:7480').meta({
    description: 'Address of the Fishery server, or unix: and the path of the socket of this host’s broker',
  }),
  token_file: z
    .string()
    .optional()
    .meta({ description: 'File with a token of role holder for this machine and holder; a broker needs none' }),
  ...certificateSettings,
  machine: z.string().meta({ description: 'The machine this runs on' }),
  holder: z.string().meta({ description: 'The holder that the program is' }),
  protocol: z.enum(['tcp', 'udp', 'icmp']).optional().meta({ description: 'Of the lease; default tcp' }),
  ports: z.int().optional().meta({ description: 'How many ports; rounded up to a power of two' }),
  mode: z.enum(['exclusive', 'shared']).optional().meta({ description: 'Of the lease; default exclusive' }),
  binding: z.enum(['late', 'explicit']).optional().meta({
    description: 'How the program takes a port of a shared lease: in connect(), or by bind() with SO_REUSEADDR',
  }),
  pool: z.string().optional().meta({ description: 'The pool that the lease must come from' }),
  family: z.literal([4, 6]).optional().meta({ description: 'IP version of the lease' }),
  claim: z
    .array(z.string())
    .default([])
    .meta({ description: 'One of several leases, as protocol=tcp,ports=128,mode=shared,binding=explicit,pool=NAME' }),
  ttl_s: z.int().min(2).max(86_400).default(30).meta({ description: 'Time to live of the session, in seconds' }),
  apply_timeout_s: z.int().min(0).max(60).default(10).meta({
    description: 'How long to wait for the agent to make the leases true, in seconds',
  }),
  on_lost: z.enum(['terminate', 'keep']).default('terminate').meta({
    description: 'What becomes of the program when its session or a lease is lost',
  }),
  bind: z.boolean().default(false).meta({
    description: 'Hand the program a bound socket for each port, as systemd does (LISTEN_FDS); exclusive leases only',
  }),
  grace_s: z.number().min(0).max(3_600).default(10).meta({
    description: 'From SIGTERM to SIGKILL when the program is terminated, in seconds',
  }),
});

const details = `The program finds its first lease in FISHERY_ADDRESS, FISHERY_PORTS (low-high), FISHERY_PORT_FIRST,
FISHERY_PORT_LAST, FISHERY_PROTOCOL and FISHERY_LEASE, the session in FISHERY_SESSION. With several
leases each stands there again with its number, from FISHERY_ADDRESS_1 on.

Within a hold these variables are no settings: an inner \`fishery hold\` does not read them, and its
program finds its own leases only. With --bind, sockets bound to the ports, in order, are its
descriptors from 3 on (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, as for socket activation).

When \`fishery hold\` itself is killed, the program is terminated (SIGTERM, SIGKILL after the grace),
for nobody keeps its ports alive any more; with --on-lost keep it is not.

Signals are passed on. The exit code is the program's, 128 + n when signal n ended it, and 75 when
it was stopped because its session or a lease was lost.

Example:
  fishery hold --token-file haproxy.token --machine edge-1 --holder haproxy --ports 128 \\
    -- haproxy -f haproxy.cfg        # source "\${FISHERY_ADDRESS}:\${FISHERY_PORTS}"  on its server lines`;

export const command = defineCommand({
  settings,
  rest: { name: 'program', description: 'the program to run, with its arguments', required: true },
  details,
  run: async (o, { env, rest, complain }) => {
    const claims = claimsOf(o);
    const token = tokenOf(o);
    const unfit = claims.ok && o.bind ? whyNotBound(claims.value) : undefined;
    const problems = [
      ...(unfit === undefined ? [] : [unfit]),
      ...(claims.ok ? [] : claims.error),
      ...(token.ok ? [] : [token.problem]),
    ];
    const client = token.ok ? clientFor(o, token.value, problems) : undefined;
    if (!claims.ok || !client || unfit !== undefined) {
      for (const problem of problems) complain(problem);
      return exitCodes.usage;
    }
    return hold(
      client,
      { ...o, claims: claims.value, command: rest },
      { env, complain, signals: process, isTerminal: process.stdin.isTTY },
    );
  },
});

type Server = CertificateSettings & Readonly<{ server: string; token_file?: string | undefined }>;

/** The kernel tells a broker who calls. */
function tokenOf({ server, token_file: file }: Server): ReturnType<typeof readSecretFile> {
  if (file !== undefined) return readSecretFile(file);
  return socketPathOf(server) === undefined
    ? {
        ok: false,
        problem: 'token_file: is required, but for the broker of this host (--server unix:/run/fishery/broker.sock)',
      }
    : { ok: true, value: '' };
}

function clientFor(settings: Server, secret: string, problems: string[]): FisheryClient | undefined {
  const { server: url, token_file: file } = settings;
  const token = file === undefined ? secret : new SecretFile(file, secret).read;
  try {
    return new FisheryClient({ url, token, tls: tlsFilesOf(settings) });
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    problems.push(cause.message);
    return undefined;
  }
}
