import { inWords } from './values.ts';

/** Members that say what a thing is and how it stands, in the order in which one would say it. */
const telling = 'what id name machine holder pool session address ports protocol mode'.split(' ');
const standing = [
  ...[
    'state',
    'ending',
    'reason',
    'role',
    'kind',
    'uid',
    'cgroup',
    'generation',
    'allocator',
    'next',
    'drain_by',
    'reusable_at',
  ],
  ...['ports_min', 'ports_max', 'sessions_max', 'requests_per_s', 'requests_burst', 'watchers_max'],
  ...['rotated_at', 'expires_at', 'revoked_at'],
];

/** What a person wants to know of anything that the API shows, in one line: `lease-8 edge-1 web … active`. */
export function inOneLine(thing: object): string {
  const members = shortened(thing);
  const words = (key: string) => inWords(members.get(key)) ?? '…';
  const isSaid = (key: string) => members.get(key) != null;
  const said = [
    ...telling.filter(isSaid).map(words),
    ...standing.filter(isSaid).map((key) => (key === 'state' ? words(key) : `${key}=${words(key)}`)),
  ];
  return said.length > 0 ? said.join(' ') : (inWords(thing) ?? JSON.stringify(thing));
}

/** The members of a thing, those of its limits among them (`tcp:512,udp:64`), and where it goes next as `--want` says it. */
function shortened(thing: object): ReadonlyMap<string, unknown> {
  const members = new Map<string, unknown>(Object.entries(thing));
  const { limits, next }: { limits?: unknown; next?: { machine?: unknown; allocator?: unknown } | null } = thing;
  for (const [name, limit] of entriesOf(limits))
    members.set(name, typeof limit === 'object' ? byProtocol(limit) : limit);
  if (next) members.set('next', `${String(next.machine)}@${String(next.allocator)}`);
  return members;
}

const byProtocol = (limit: unknown): string | null =>
  entriesOf(limit)
    .map(([protocol, ports]) => `${protocol}:${String(ports)}`)
    .join() || null;

const entriesOf = (value: unknown): readonly [string, unknown][] =>
  typeof value === 'object' && value !== null ? Object.entries(value) : [];
