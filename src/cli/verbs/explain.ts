import { z } from 'zod';
import type { Explanation } from '../../wire/explain.ts';
import { Name, SessionId } from '../../wire/primitives.ts';
import { exitCodes } from '../command.ts';
import { tableOf, type Columns } from '../output/table.ts';
import { claimFlags } from './claims.ts';
import { show, verb } from './verb.ts';

type Room = Explanation['rooms'][number];
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
  summary: 'Find out why a claim would be granted, or why not',
  operations: ['explainGrant'],
  flags: z.strictObject({
    session: SessionId.optional().meta({ description: 'For this session' }),
    machine: Name.optional().meta({ description: 'Instead of a session: on this machine' }),
    holder: Name.optional().meta({ description: 'For this holder of the machine' }),
    ...claimFlags.shape,
  }),
  details: `Grants nothing. Exit code 4 when nothing would be granted.

  fishery explain --machine edge-1 --holder haproxy --ports 1024
  fishery explain --session session-42 --protocol udp --count 100 --select country=de`,
  run: async (call) => {
    const { session, machine, holder, placement, ...claim } = call.flags;
    const answer = await call.client.explain({ session, machine, holder, claim, placement }, call.options);
    show(call, answer, inWords);
    return answer.granted ? exitCodes.ok : exitCodes.refused;
  },
});

function inWords({ granted, reason, leases, ...answer }: Explanation): string {
  const whose = answer.holder === null ? '' : ` to ${answer.holder}`;
  return [
    reason === null
      ? `would be granted${whose} on ${answer.machine}:`
      : `would not be granted${whose} on ${answer.machine} (${answer.machine_state}): ${reason.code}`,
    ...(reason === null ? [] : [reason.detail, reason.remedy]),
    ...(granted ? [tableOf(spots, leases)] : []),
    '',
    answer.rooms.length === 0 ? 'the machine has no slice' : tableOf(rooms, answer.rooms),
    ...(answer.next_ports_at === null ? [] : [`the next ports leave their rest at ${answer.next_ports_at}`]),
  ].join('\n');
}
