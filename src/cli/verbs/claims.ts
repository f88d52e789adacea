import { z } from 'zod';
import { Claim, LeaseGrant } from '../../wire/leases.ts';
import { claimParts } from '../claim-text.ts';
import { placeField, selectorField } from './fields.ts';

/** What one claim says. What it does not say, the server knows. */
const fields = {
  protocol: Claim.shape.protocol.optional().meta({
    description: 'Default tcp; icmp means echo: ports are identifiers',
  }),
  ports: Claim.shape.ports,
  count: Claim.shape.count.unwrap().optional().meta({ description: 'So many leases, all alike; default 1' }),
  mode: Claim.shape.mode.unwrap().optional().meta({
    description: 'Default exclusive; shared (tcp only): others may use the same ports toward other destinations',
  }),
  binding: Claim.shape.binding,
  pool: Claim.shape.pool.meta({ description: 'The pool that it must come from' }),
  select: selectorField.optional().meta({ description: 'Labels of the pools that it may come from, like country=de' }),
  family: Claim.shape.family.meta({ description: 'IP version' }),
  sticky: Claim.shape.sticky.unwrap().optional().meta({
    description: 'On the address that the holder had last, as long as there is room',
  }),
  address: Claim.shape.address.meta({ description: 'On this address of the machine' }),
  at: placeField.optional().meta({ description: 'This very block, by ADDRESS:FIRST_PORT' }),
};
const Fields = z.strictObject(fields);

/** `protocol=udp,ports=64,count=2,select={country=de,tier}` */
const claimField = z.string().transform((text, context): z.output<typeof Fields> => {
  const refuse = (message: string) => {
    context.addIssue({ code: 'custom', message: `"${text}": ${message}` });
    return z.NEVER;
  };
  const parts = claimParts(text, Object.keys(fields));
  if (!parts.ok) return refuse(parts.error);
  const parsed = Fields.safeParse(parts.value);
  if (parsed.success) return parsed.data;
  for (const { path, message } of parsed.error.issues) refuse(`${path.join('.')}: ${message}`);
  return z.NEVER;
});

/** Claims, and how the leases of them are to lie: flags of the verbs that ask for leases, or about them. */
export const claimFlags = z.strictObject({
  ...fields,
  claim: z
    .array(claimField)
    .default([])
    .meta({
      description:
        'One of several claims, as protocol=udp,ports=64,select={country=de}; the other flags hold for each that does not ' +
        'say otherwise',
    }),
  placement: LeaseGrant.shape.placement.meta({ description: 'How several lie: on any, on one, or on many addresses' }),
});

type Asked = Omit<z.output<typeof claimFlags>, 'placement'>;

/** The claims that the flags ask for: those of each --claim, or the one that the other flags describe. */
export const claimsOf = ({ claim, ...given }: Asked) =>
  (claim.length === 0 ? [{}] : claim).map((one: z.output<typeof Fields>) => ({
    ...given,
    ...one,
    protocol: one.protocol ?? given.protocol ?? ('tcp' as const),
  }));
