import { z } from 'zod';
import { parseAddress } from '../net/address.ts';
import { portMax } from '../net/ports.ts';
import { parsePrefix } from '../net/prefix.ts';
import { protocols } from '../net/protocol.ts';
import { parseSelector, selectorBounds } from '../net/selector.ts';
import { plainText } from '../net/text.ts';

/**
 * The words that every resource is spelled with. A schema here is the single source of its validation, its TypeScript
 * type and its OpenAPI component. Objects are strict: a key nobody knows is an error, not a silent no-op.
 */

/** Names that operators choose (pools, machines, holders): they stand in URLs, logs and metrics, so they are plain. */
export const Name = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/)
  .meta({ description: 'Lower-case letters, digits, dots and hyphens; 1 to 63 characters.', examples: ['edge-1'] });

/** What people and programs write freely, and what is kept: of every string that is stored and has no form of its own. */
export const Text = (units_max: number) =>
  z
    .string()
    .max(units_max)
    .regex(plainText, 'must be well-formed Unicode without control characters, such as line breaks');

/** Identifiers that the server makes: a word and the revision at which the thing came to be. */
const identifier = (word: string) =>
  z
    .string()
    .regex(new RegExp(`^${word}-[1-9][0-9]{0,15}$`))
    .meta({ examples: [`${word}-42`] });
export const SliceId = identifier('slice');
export const SessionId = identifier('session');
export const LeaseId = identifier('lease');
export const TokenId = identifier('token');

export const AllocatorName = z.enum(['server', 'machine']).meta({
  description: 'Who grants inside the slice. Where the machine does, the server never grants, expires or frees.',
});

export const Labels = z
  .record(z.string().regex(/^[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?$/), Text(63))
  .refine((labels) => Object.keys(labels).length <= 32, 'at most 32 labels')
  .meta({ description: 'Free key-value pairs for selection, such as site or country.', examples: [{ site: 'fra1' }] });

/** Which things are meant, by their labels; parsed where it comes in. */
export const SelectorText = z
  .string()
  .min(1)
  .max(selectorBounds.characters_max)
  .transform((text, context) => {
    const parsed = parseSelector(text);
    if (parsed.ok) return parsed.value;
    context.addIssue({ code: 'custom', message: parsed.error });
    return z.NEVER;
  })
  .meta({
    description:
      'Conditions on labels, all of which must hold: key=value, key!=value, key in (a,b), key notin (a,b), key, !key; ' +
      'separated by commas. != and notin also hold where the label is missing.',
    examples: ['country=de,product in (proxy,vpn),!legacy'],
  });

/** Canonical text only: what is stored, compared and shown is one spelling. */
export const AddressText = z
  .string()
  .max(64)
  .transform((text, context) => {
    const parsed = parseAddress(text);
    if (parsed.ok) return parsed.value;
    context.addIssue({ code: 'custom', message: parsed.error });
    return z.NEVER;
  })
  .meta({ description: 'An IPv4 or IPv6 address.', examples: ['198.51.100.10'] });

export const PrefixText = z
  .string()
  .max(64)
  .transform((text, context) => {
    const parsed = parsePrefix(text);
    if (parsed.ok) return parsed.value;
    context.addIssue({ code: 'custom', message: parsed.error });
    return z.NEVER;
  })
  .meta({ description: 'A network with its host bits zero.', examples: ['198.51.100.0/24'] });

export const Port = z.int().min(0).max(portMax);
export const Ports = z
  .strictObject({ first: Port, last: Port })
  .refine((range) => range.first <= range.last, 'first must not be above last')
  .meta({ id: 'Ports', description: 'An inclusive range of ports, or of ICMP echo identifiers.' });

export const ProtocolName = z.enum(protocols).meta({ description: 'icmp means echo: the port is the identifier.' });
export const FamilyNumber = z.literal([4, 6]).meta({ description: 'IP version.' });
export const Revision = z.int().min(0).meta({ description: "Position in the server's one ordered log of changes." });
export const Instant = z.iso
  .datetime({ precision: 6 })
  .meta({ description: 'RFC 3339, UTC, microseconds.', examples: ['2026-01-31T14:03:07.000000Z'] });

/** (slice generation, allocator epoch, sequence): what was seen. A message that carries an older one is refused. */
export const LeaseToken = z
  .string()
  .regex(/^\d{1,10}\.\d{1,10}\.\d{1,16}$/)
  .meta({ description: 'Generation, allocator epoch and sequence of the grant.', examples: ['1.1.42'] });
