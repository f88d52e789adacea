import { inWords } from './values.ts';

/** Members that say what a thing is and how it stands, in the order in which one would say it. */
const telling = ['id', 'name', 'machine', 'holder', 'pool', 'session', 'address', 'ports', 'protocol', 'mode'] as const;
const standing = ['state', 'ending', 'reason', 'role', 'kind', 'generation', 'reusable_at', 'expires_at'] as const;

/** What a person wants to know of anything that the API shows, in one line: `lease-8 edge-1 web … active`. */
export function inOneLine(thing: object): string {
  const members = new Map<string, unknown>(Object.entries(thing));
  const words = (key: string) => inWords(members.get(key)) ?? '…';
  const isSaid = (key: string) => members.get(key) != null;
  const said = [
    ...telling.filter(isSaid).map(words),
    ...standing.filter(isSaid).map((key) => (key === 'state' ? words(key) : `${key}=${words(key)}`)),
  ];
  return said.length > 0 ? said.join(' ') : (inWords(thing) ?? JSON.stringify(thing));
}
