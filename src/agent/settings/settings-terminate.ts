import { z } from 'zod';
import type { Paths } from '../../terminate/paths.ts';
import type { TerminateSettings } from '../../terminate/protocol.ts';
import { Name, Port, Ports, PrefixText } from '../../wire/primitives.ts';
import { FishClaim } from '../fish/fish-claims.ts';
import { flowLogSetting, Mark, seconds } from './setting-values.ts';

const PathName = z.enum(['terminate', 'packet']);
const prefixes = () => z.array(PrefixText).max(256).default([]);

const PathRuleSetting = z
  .strictObject({
    clients: prefixes().meta({ description: 'Connections from here; none named: from anywhere' }),
    destinations: prefixes().meta({ description: 'Connections to here; none named: to anywhere' }),
    ports: z
      .array(z.union([Port.transform((port) => ({ first: port, last: port })), Ports]))
      .max(64)
      .default([])
      .meta({ description: 'Destination ports, or ranges of them; none named: any' }),
    path: PathName.meta({ description: 'terminate: carried on by a socket of this host; packet: translated by fish' }),
  })
  .meta({ description: 'Which path connections take; the first rule that matches decides' });

export const Terminate = z
  .strictObject({
    enabled: z.boolean().default(true),
    holder: Name.default('terminator').meta({
      description: 'Name of the holder of kind terminator on this machine, whose user id its process takes on',
    }),
    session_ttl_s: z.int().min(2).max(86_400).default(30),
    claims: z.array(FishClaim).min(1).max(256).meta({
      description: 'The leases that connections are made from; of each family that clients speak, at least one',
    }),
    paths: z
      .array(PathRuleSetting)
      .max(256)
      .default([])
      .meta({ description: 'Which connections; the first match decides' }),
    otherwise: PathName.default('terminate').meta({ description: 'Where a connection goes that no rule is about' }),
    port: Port.min(1)
      .default(7_490)
      .meta({ description: 'On 127.0.0.1 and ::1: where it listens for what is led to it' }),
    mark: Mark.default(0x2b).meta({ description: 'Packet mark of what is led to it; another one than that of fish' }),
    route_table: z.int().min(1).max(0xffff_ffff).default(101).meta({
      description: "Number of the terminator's routing table, which nobody else may use",
    }),
    connections_max: z.int().min(1).max(1_000_000).default(16_384).meta({
      description: 'Connections at one moment; more are reset. Each takes two descriptors',
    }),
    connections_per_client_max: z.int().min(1).max(1_000_000).default(4_096),
    connect_timeout_s: seconds(0.1, 600).default(15).meta({ description: 'How long an origin may take to answer' }),
    idle_timeout_s: seconds(1, 604_800).default(7_440).meta({
      description: 'A connection on which nothing was said for so long is reset; RFC 5382 asks for 2 h 4 min',
    }),
    half_closed_timeout_s: seconds(1, 604_800).default(240).meta({
      description: 'The same, once one side has said that it is done',
    }),
    on_unreachable: z.enum(['reset', 'close']).default('reset').meta({
      description:
        'What a client gets whose origin does not answer or cannot be reached. One that refuses is a reset always',
    }),
    flow_log_max: z.int().min(1).max(1_048_576).default(65_536).meta({
      description:
        'Ended connections, the latest so many, that are in memory: as many as may end while no agent is there. 112 bytes each',
    }),
    flow_log: flowLogSetting(
      "The connections that have ended, in state_dir/terminated: what answers the server's flow queries",
    ),
    destinations_max: z.int().min(1).max(1_000_000).default(1_024).meta({
      description: 'Destinations whose reachability is told one by one',
    }),
  })
  .refine(
    (terminate) => terminate.claims.every((claim) => claim.protocol === 'tcp'),
    'only TCP is terminated: claim tcp',
  )
  .meta({ description: 'Connections of clients that are carried on by sockets of this host; absent: none' });
export type TerminateSettingsFile = z.infer<typeof Terminate>;

export const pathsOf = ({ paths, otherwise }: Pick<TerminateSettingsFile, 'paths' | 'otherwise'>): Paths => ({
  rules: paths,
  otherwise,
});

/** What the process is told. */
export const terminateSettingsOf = (settings: TerminateSettingsFile): TerminateSettings => ({
  paths: pathsOf(settings),
  connections_max: settings.connections_max,
  connections_per_client_max: settings.connections_per_client_max,
  connect_timeout_s: settings.connect_timeout_s,
  idle_timeout_s: settings.idle_timeout_s,
  half_closed_timeout_s: settings.half_closed_timeout_s,
  on_unreachable: settings.on_unreachable,
  flow_log_max: settings.flow_log_max,
  destinations_max: settings.destinations_max,
});
