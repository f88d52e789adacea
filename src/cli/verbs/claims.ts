import { z } from 'zod';
import { Claim, LeaseGrant } from '../../wire/leases.ts';
import { placeField, selectorField } from './fields.ts';

/** A claim, and how the leases of it are to lie: flags of the verbs that ask for leases, or about them. */
export const claimFlags = z.strictObject({
  protocol: Claim.shape.protocol.default('tcp').meta({ description: 'icmp means echo: ports are identifiers' }),
  ports: Claim.shape.ports,
  count: Claim.shape.count.meta({ description: 'So many leases, all alike' }),
  mode: Claim.shape.mode,
  binding: Claim.shape.binding,
  pool: Claim.shape.pool.meta({ description: 'The pool that it must come from' }),
  select: selectorField.optional().meta({ description: 'Labels of the pools that it may come from, like country=de' }),
  family: Claim.shape.family.meta({ description: 'IP version' }),
  sticky: Claim.shape.sticky.meta({ description: 'On the address that the holder had last, as long as there is room' }),
  address: Claim.shape.address.meta({ description: 'On this address of the machine' }),
  at: placeField.optional().meta({ description: 'This very block, by ADDRESS:FIRST_PORT' }),
  placement: LeaseGrant.shape.placement.meta({ description: 'How several lie: on any, on one, or on many addresses' }),
});
