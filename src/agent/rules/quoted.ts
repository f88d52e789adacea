import type { Family } from '../../net/address.ts';
import { protocolNumber } from '../../net/protocol.ts';
import { setName, type SetClass } from '../host/sets.ts';
import { ip, masked16, ofRole } from './words.ts';
import { lookUp, toFish } from './steer-words.ts';

/*
 * ICMP errors, judged by the packet that they quote. A rule looks in one place only, so there is one for each place in which
 * its ports may be.
 */

/** Where the port of the packet that an ICMP error quotes begins, in bits from the start of the error (RFC 792, 4443). */
const quotedHeader = { 4: { protocolAt: 136, portsAt: 224 }, 6: { protocolAt: 112, portsAt: 384 } } as const;
/** And its addresses. */
export const quotedAddresses = { 4: [160, 192], 6: [128, 256] } as const;

/** Words of IP options that a quoted header may have: they move the ports, and a rule looks in one place only. */
const optionWords_max = 10;

/**
 * For each place in which a quoted packet of this protocol may have its port or identifier, `portAt` bits behind the end of
 * the headers: how to tell that it is there, and where.
 */
export function quotations(
  { family, protocol: name }: Pick<SetClass, 'family' | 'protocol'>,
  portAt: number,
): readonly (readonly [match: string, at: number])[] {
  const { protocolAt, portsAt } = quotedHeader[family];
  const protocol = protocolNumber(name, family);
  if (family === 6)
    return extensionChains.map((chain) => {
      let [nextAt, at] = [protocolAt as number, portsAt as number];
      const matches = chain.flatMap(({ types, is, bytes }) => {
        const match = [`@th,${nextAt},8 ${types}`, ...is(at)];
        [nextAt, at] = [at, at + 8 * bytes];
        return match;
      });
      return [[...matches, `@th,${nextAt},8 ${protocol}`].join(' '), at + portAt] as const;
    });
  return Array.from({ length: optionWords_max + 1 }, (_, words) => [
    // Version 4, and five words without options.
    `@th,64,8 0x4${(5 + words).toString(16)} @th,${protocolAt},8 ${protocol}`,
    portsAt + 32 * words + portAt,
  ]);
}

/** What tells an extension header of IPv6 that begins at a bit of the error, and how long it then is (RFC 8200 section 4). */
type Extension = Readonly<{ types: string; is: (at: number) => readonly string[]; bytes: number }>;

/** Hop-by-hop (0) and destination options (60), so many times eight bytes long: the second byte says how many more. */
const options = (words: number): Extension => ({
  types: '{ 0, 60 }',
  is: (at) => [`@th,${at + 8},8 ${words - 1}`],
  bytes: 8 * words,
});
/** The first fragment: any other has no ports. */
const fragment: Extension = { types: '44', is: (at) => [`@th,${at + 16},16 & 0xfff8 0`], bytes: 8 };

/** What a quoted packet may have between its header and its ports; without any is the commonest by far. */
const extensionChains: readonly (readonly Extension[])[] = [
  [],
  [fragment],
  [options(1)],
  [options(1), fragment],
  [options(2)],
  [options(3)],
  [options(1), options(1)],
];

/** The port of a quoted packet is its source's: the packet went out. An echo has its identifier in the second word. */
const sentPortAt = ({ protocol }: SetClass): number => (protocol === 'icmp' ? 32 : 0);
/** The port of a quoted packet is its destination's: the packet came in. */
const arrivedPortAt = ({ protocol }: SetClass): number => (protocol === 'icmp' ? 32 : 16);

/** Errors that fish may tell the outside about what came in. */
export const errorsFrom = (family: Family, classes: readonly SetClass[]): readonly string[] =>
  ofRole(classes, family, ['quoted', 'fish'])
    .filter((each) => (each.protocol === 'icmp') === (each.role === 'fish'))
    .flatMap((each) =>
      quotations(each, arrivedPortAt(each)).map(
        ([match, at]) => `${match} ${ip(family)} saddr . @th,${at},16${masked16(each.size)} @${setName(each)} accept`,
      ),
    );

/** Errors from outside about what fish sent. */
export const errorsAbout = (family: Family, classes: readonly SetClass[]): readonly string[] =>
  ofRole(classes, family, ['steer']).flatMap((each) =>
    quotations(each, sentPortAt(each)).map(([match, at]) => `${match} ${lookUp(each, at)} ${toFish('steer_error')}`),
  );
