import { z } from 'zod';
import type { Explanation } from '../../wire/explain.ts';
import { Name, SessionId } from '../../wire/primitives.ts';
import { exitCodes } from '../command.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { claimFlags, claimsOf } from './claims.ts';
import { show, verb, whoseFlags, whoseOf } from './verb.ts';

type Explained = Explanation['claims'][number];
type Room = Explained['rooms'][number];
type Spot = Explanation['leases'][number];

const spots: Columns<Spot> = {
  address: ({ address }) => address,
  protocol: ({ protocol }) => protocol,
  ports: ({ ports }) => ports,
  mode: ({ mode }) => mode,
  pool: ({ pool }) => pool,
  slice: ({ slice }) => slice,
};

const rooms: Columns<Room> = {
  pool: ({ pool }) => pool,
  family: ({ family }) => `IPv${family}`,
  'largest block': (room) => room.largest_block_ports,
  free: ({ ports }) => ports.free,
  withheld: ({ ports }) => ports.withheld,
  'machine allocates': ({ ports }) => ports.machine_allocated,
  exclusive: ({ ports }) => ports.exclusive,
  shared: ({ ports }) => ports.shared,
  cooling: ({ ports }) => ports.cooling,
  blocked: ({ ports }) => ports.blocked,
  unsuitable: ({ unsuitable }) => unsuitable?.replaceAll('_', ' '),
};

export const explain = verb({
  name: 'explain',
  summary: 'Find out why claims would be granted, or why not',
  operations: ['explainGrant'],
  flags: z.strictObject({
    session: SessionId.optional().meta({ description: 'For this session' }),
    machine: Name.optional().meta({
      description: 'Instead of a session: on this machine; with --allocator machine, whose broker is asked',
    }),
    allocator: whoseFlags.allocator,
    holder: Name.optional().meta({ description: 'For this holder of the machine' }),
    ...claimFlags.shape,
  }),
  details: `Grants nothing. Exit code 4 when nothing would be granted.

  fishery explain --machine edge-1 --holder haproxy --ports 1024
  fishery explain --session session-42 --protocol udp --count 100 --select country=de
  fishery explain --allocator machine --machine edge-1 --holder haproxy --ports 1024
  fishery explain --session session-42 --claim ports=1024 --claim protocol=udp,ports=64 --placement same_address`,
  run: async (call) => {
    const { session, machine, holder, placement, allocator, ...asked } = call.flags;
    const claims = claimsOf(asked);
    // Of a session of a broker, the machine says whose.
    const whose = allocator === undefined ? {} : whoseOf({ allocator, machine });
    const who =
      session === undefined ? { machine, holder } : { session, ...(allocator === undefined && { machine, holder }) };
    const answer = await call.client.explain({ ...who, claims, placement }, { ...call.options, ...whose });
    show(call, answer, (explanation) => inWords(explanation, claims));
    return answer.granted ? exitCodes.ok : exitCodes.refused;
  },
});

type Asked = ReturnType<typeof claimsOf>;

function inWords({ granted, reason, leases, ...answer }: Explanation, asked: Asked): string {
  const whose = answer.holder === null ? '' : ` to ${answer.holder}`;
  const failed = answer.failed_claim;
  const which = failed === null || asked.length === 1 ? '' : `, for claim ${failed + 1} of ${asked.length}`;
  // What there is for the claim that it is about.
  const about = answer.claims[failed ?? 0];
  return [
    reason === null
      ? `would be granted${whose} on ${answer.machine}:`
      : `would not be granted${whose} on ${answer.machine} (${answer.machine_state}): ${reason.code}${which}`,
    ...(reason === null ? [] : [reason.detail, reason.remedy]),
    ...(granted ? [tableOf(spots, leases)] : []),
    ...(granted || asked.length === 1
      ? []
      : [
          '',
          tableOf(
            outcomes,
            answer.claims.map(({ reason: own }, index) => ({ number: index + 1, claim: asked[index], reason: own })),
          ),
        ]),
    '',
    about === undefined || about.rooms.length === 0 ? 'the machine has no slice' : tableOf(rooms, about.rooms),
    ...(about == null || about.next_ports_at === null
      ? []
      : [`the next ports leave their rest at ${about.next_ports_at}`]),
  ].join('\n');
}

type Outcome = Readonly<{ number: number; claim: Asked[number] | undefined; reason: Explained['reason'] }>;

/** Each claim, and what is in its way. */
const outcomes: Columns<Outcome> = {
  claim: ({ number }) => number,
  protocol: ({ claim }) => claim?.protocol,
  ports: ({ claim }) => claim?.ports,
  count: ({ claim }) => claim?.count ?? 1,
  outcome: ({ reason }) => reason?.code ?? 'could be granted',
  detail: ({ reason }) => reason?.detail,
};
