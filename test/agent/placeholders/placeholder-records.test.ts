import { expect, it } from 'vitest';
import { decodePlace, encodePlace } from '../../../src/agent/placeholders/placeholder-records.ts';
import { addressToBytes } from '../../../src/net/address.ts';
import { address } from '../../support/fake-host.ts';

it.each([
  ['tcp', '198.51.100.10', 9_000],
  ['udp', '2001:db8::10', 65_535],
  ['icmp', '198.51.100.10', 1],
] as const)('a placeholder of %s on %s is known again by its record', (protocol, text, port) => {
  const place = { protocol, address: addressToBytes(address(text)), port };
  expect(encodePlace(place)).toHaveLength(28);
  expect(decodePlace(encodePlace(place))).toEqual(place);
});

it.each([
  ['another layout', 0],
  ['another protocol', 1],
  ['another family', 2],
])('a record of %s is nobody’s', (_what, at) => {
  const record = encodePlace({ protocol: 'tcp', address: addressToBytes(address('198.51.100.10')), port: 9_000 });
  record[at] = 99;
  expect(decodePlace(record)).toBeUndefined();
});
