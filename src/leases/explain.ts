import { familyOf, type Address } from '../net/address.ts';
import type { Protocol } from '../net/protocol.ts';
import { err, ok, type Result } from '../net/result.ts';
import { addressOf, isSelected, orderOf, type Grantee } from './claims.ts';
import type { Claim, Commands, Room, Scope, Unsuitable } from './commands.ts';
import type { LeaseError, LeaseErrorCode } from './errors.ts';
import { isOffered } from './extents.ts';
import { granteeNamed, granteeNeeds, granteeOf } from './grantees.ts';
import { groundNeeds, settleEach, settleFor } from './grants.ts';
import type { Slice } from './model.ts';
import { together, type Need, type Needs } from './needs.ts';
import type { UsageRow } from './store.ts';
import type { UseCase } from './use-case.ts';
import type { Offer, RoomRow, View } from './view.ts';

/** What there is nothing to explain about: the question itself is wrong, or not the caller's to ask. */
const misaddressed: ReadonlySet<LeaseErrorCode> = new Set<LeaseErrorCode>([
  ...(['session_not_found', 'machine_not_found', 'holder_not_found', 'not_yours'] as const),
]);

/** Decided by what decides grants, and undone: it cannot say anything else than what a grant would come to. */
export const explainGrant: UseCase<'explainGrant'> = {
  *needs(question, { view }) {
    const { claims, placement = 'any' } = question;
    if ('bystander' in question) yield [{ need: 'machine', id: question.bystander }];
    else yield* granteeNeeds(view, question);
    const to = granteeFor(view, question);
    if (!to) return;
    const { machine } = to;
    const asked = [...new Set(claims.map(({ protocol }) => protocol))];
    yield* together([
      groundNeeds(view, to, claims, placement),
      ...asked.map((protocol) => roomNeeds(view, machine, protocol)),
      only(claims.flatMap((claim) => addressNeeds(machine, claim))),
      only(asked.map((protocol): Need => ({ need: 'nextRest', machine, protocol }))),
    ]);
  },

  decide(question, context) {
    const { view } = context;
    const { claims, placement = 'any' } = question;
    const named = granteeFor(view, question);
    const machine = named && view.machines.get(named.machine);
    const may = 'bystander' in question ? standBy(question) : granteeOf(context, question);
    if (!may.ok && misaddressed.has(may.error.code)) return may;
    if (!named || !machine) return err({ code: 'machine_not_found', machine: named?.machine ?? '' });
    const tried = <T>(attempt: () => T): T => {
      const mark = view.mark();
      const outcome = attempt();
      view.rewindTo(mark);
      return outcome;
    };
    const verdict = may.ok ? tried(() => settleFor(view, named, claims, placement)) : may;
    const errors = verdict.ok
      ? []
      : may.ok
        ? tried(() => settleEach(view, named, claims, placement)).map((each) => (each.ok ? null : each.error))
        : claims.map(() => may.error);
    const isAboutAll = verdict.ok || !may.ok || aboutAll.has(verdict.error.code);
    const first = errors.findIndex((error) => error !== null);
    return ok({
      machine,
      holder: 'bystander' in question ? null : named.holder,
      verdict,
      failed: isAboutAll || first < 0 ? null : first,
      claims: claims.map((claim, index) => ({
        error: errors[index] ?? null,
        rooms: roomsOf(view, machine.id, claim),
        nextRestAt: view.nextRestOf(machine.id, claim.protocol),
      })),
      revision: view.revision,
    });
  },
};

/** What no claim is to blame for. */
const aboutAll: ReadonlySet<LeaseErrorCode> = new Set<LeaseErrorCode>(['machine_not_active', 'no_common_address']);

/** Who is bound to something of a machine asks for somebody there. */
const standBy = ({ scope, bystander }: Readonly<{ scope: Scope; bystander: string }>): Result<unknown, LeaseError> =>
  scope.machine === undefined ? ok(undefined) : err({ code: 'not_yours', item: `machine "${bystander}"` });

function* only(needs: readonly Need[]): Needs {
  yield needs;
}

/** A bystander has nothing on the machine; no holder has an empty name. */
function granteeFor(view: View, question: Commands['explainGrant']['input']): Grantee | undefined {
  if ('bystander' in question) return { machine: question.bystander, holder: '', session: null, unit: null };
  return granteeNamed(view, question);
}

function* roomNeeds(view: View, machine: string, protocol: Protocol): Needs {
  yield [{ need: 'room', machine, protocol }];
  yield view.roomOf(machine, protocol).map(({ pool }): Need => ({ need: 'pool', id: pool }));
}

/** What the machine has on the address that a claim asks for. */
function addressNeeds(machine: string, claim: Claim): readonly Need[] {
  const address = addressOf(claim);
  if (address === null) return [];
  return [
    { need: 'ownedAt', machine, address },
    { need: 'offeredAt', machine, address, allocator: 'server' },
    { need: 'offeredAt', machine, address, allocator: 'machine' },
  ];
}

function roomsOf(view: View, machine: string, claim: Claim): readonly Room[] {
  const { isThere, offers, own } = groundOf(view, machine, addressOf(claim));
  const groups = Map.groupBy(view.roomOf(machine, claim.protocol), ({ pool, family }) => `${pool}/${family}`);
  const rooms = [...groups.values()].flatMap((rows): Room[] => {
    const [first] = rows;
    if (!first) return [];
    const { pool, family } = first;
    const isIn = (some: readonly Offer[]) => some.some((offer) => offer.pool === pool && offer.family === family);
    const notOffered = isIn(offers) ? null : isIn(own) ? 'machine_allocates' : 'not_offered';
    const unsuitable = whyNot(view, claim, { pool, family }, isThere) ?? notOffered;
    return [{ pool, family, unsuitable, ...portsOf(rows) }];
  });
  return rooms.sort((a, b) => (a.pool === b.pool ? a.family - b.family : a.pool < b.pool ? -1 : 1));
}

type Ground = Readonly<{ isThere: (offer: Offer) => boolean; offers: readonly Offer[]; own: readonly Offer[] }>;

/** What the machine has at all, is granted from and grants from itself: anywhere, or on one address. */
function groundOf(view: View, machine: string, address: Address | null): Ground {
  if (address === null) return { isThere: () => true, offers: view.offersOf(machine), own: view.ownOffersOf(machine) };
  const here = [...view.slices.values()].filter((slice) => slice.machine === machine && slice.address === address);
  const offersIn = (slices: readonly Slice[]) => slices.map(({ pool }) => ({ pool, family: familyOf(address) }));
  const isOwn = ({ state, allocator }: Slice) => state === 'assigned' && allocator === 'machine';
  return {
    isThere: ({ pool, family }) => family === familyOf(address) && here.some((slice) => slice.pool === pool),
    offers: offersIn(here.filter(isOffered)),
    own: offersIn(here.filter(isOwn)),
  };
}

function portsOf(rows: readonly RoomRow[]): Pick<Room, 'ports' | 'largest'> {
  const of = (state: UsageRow['state']) => rows.reduce((sum, row) => (row.state === state ? sum + row.ports : sum), 0);
  const ports = {
    free: of('free'),
    withheld: of('withheld'),
    machine_allocated: of('machine_allocated'),
    exclusive: of('exclusive'),
    shared: of('shared'),
    cooling: of('cooling'),
    blocked: of('blocked'),
  };
  return { ports, largest: Math.max(0, ...rows.map(({ fit }) => (fit === null ? 0 : 2 ** fit))) };
}

function whyNot(view: View, claim: Claim, room: Offer, isThere: Ground['isThere']): Unsuitable | null {
  const { pool: id, family } = room;
  const pool = view.pools.get(id);
  if (claim.pool !== null && claim.pool !== id) return 'other_pool';
  if (claim.family !== null && claim.family !== family) return 'other_family';
  if (!isThere(room)) return 'other_address';
  if (!isSelected(claim, pool)) return 'other_labels';
  if (!pool || orderOf(claim, pool) === undefined) return 'slice_too_small';
  return null;
}
