import { describe, expect, it } from 'vitest';
import { claimsOf } from '../../src/cli/hold/claims.ts';
import { leaseVariables } from '../../src/cli/hold/environment.ts';
import type { Lease } from '../../src/wire/leases.ts';

const lease = (number: number, more: Partial<Lease> = {}): Lease => ({
  id: `lease-${number}`,
  token: `1.1.${number}`,
  session: 'session-1',
  machine: 'm',
  holder: 'h',
  slice: 'slice-1',
  pool: 'p',
  address: '198.51.100.10',
  protocol: 'tcp',
  ports: { first: 9_000, last: 9_127 },
  mode: 'exclusive',
  binding: null,
  state: 'active',
  ending: null,
  refusal: null,
  granted_at: '2026-01-31T14:03:07.000000Z',
  active_at: '2026-01-31T14:03:07.000000Z',
  ending_at: null,
  reusable_at: null,
  ended_at: null,
  revision: number,
  ...more,
});

describe('the claims of fishery hold', () => {
  it('is one tcp claim when nothing is said', () => {
    expect(claimsOf({ claim: [] })).toEqual({ ok: true, value: [{ protocol: 'tcp', mode: 'exclusive' }] });
  });

  it('is what the single flags describe', () => {
    expect(
      claimsOf({ claim: [], protocol: 'tcp', ports: 64, mode: 'shared', binding: 'explicit', pool: 'p', family: 6 }),
    ).toEqual({
      ok: true,
      value: [{ protocol: 'tcp', ports: 64, mode: 'shared', binding: 'explicit', pool: 'p', family: 6 }],
    });
  });

  it('is one for each --claim', () => {
    expect(claimsOf({ claim: ['protocol=tcp,ports=128,mode=shared', 'protocol=udp,family=4'] })).toEqual({
      ok: true,
      value: [
        { protocol: 'tcp', ports: 128, mode: 'shared' },
        { protocol: 'udp', family: 4, mode: 'exclusive' },
      ],
    });
  });

  it.each([
    ['protocol=tcp,weight=3', 'got "weight=3"'],
    ['protocol=tcp,protocol=udp', 'got "protocol=udp"'],
    ['tcp', 'got "tcp"'],
    ['protocol=tcp,ports=a=b', 'got "ports=a=b"'],
    ['protocol=sctp', 'protocol: Invalid option'],
    ['ports=128', 'protocol: Invalid option'],
    ['protocol=tcp,ports=0', 'ports: Too small'],
    ['protocol=tcp,ports=0x10', 'ports: Invalid input'],
    ['protocol=tcp,pool=No Pool', 'pool: Invalid string'],
    ['', 'got ""'],
  ])('refuses --claim "%s" and says why', (text, why) => {
    const result = claimsOf({ claim: [text] });
    expect(result).toEqual({ ok: false, error: [expect.stringContaining(why)] });
    expect(result).toEqual({ ok: false, error: [expect.stringContaining(`--claim "${text}"`)] });
  });

  it('tells every wrong --claim at once', () => {
    expect(claimsOf({ claim: ['nonsense', 'protocol=tcp', 'ports=1'] })).toMatchObject({
      ok: false,
      error: { length: 2 },
    });
  });

  it('does not guess when both ways are used', () => {
    expect(claimsOf({ claim: ['protocol=tcp'], ports: 3, mode: 'shared' })).toEqual({
      ok: false,
      error: ['--claim says everything about a lease: leave out --ports, --mode'],
    });
  });
});

describe('the environment of a held program', () => {
  it('names one lease without a number', () => {
    expect(leaseVariables('session-1', [lease(7)])).toEqual({
      FISHERY_SESSION: 'session-1',
      FISHERY_LEASE: 'lease-7',
      FISHERY_ADDRESS: '198.51.100.10',
      FISHERY_PROTOCOL: 'tcp',
      FISHERY_PORTS: '9000-9127',
      FISHERY_PORT_FIRST: '9000',
      FISHERY_PORT_LAST: '9127',
    });
  });

  it('names several with their numbers, and the first one also without', () => {
    const variables = leaseVariables('session-1', [
      lease(7),
      lease(8, { address: '2001:db8::10', protocol: 'udp', ports: { first: 5_000, last: 5_000 } }),
    ]);
    expect(variables).toMatchObject({
      FISHERY_LEASE: 'lease-7',
      FISHERY_LEASE_1: 'lease-7',
      FISHERY_PORTS_1: '9000-9127',
      FISHERY_LEASE_2: 'lease-8',
      FISHERY_ADDRESS_2: '2001:db8::10',
      FISHERY_PROTOCOL_2: 'udp',
      FISHERY_PORTS_2: '5000',
      FISHERY_PORT_FIRST_2: '5000',
      FISHERY_PORT_LAST_2: '5000',
    });
    expect(Object.keys(variables)).toHaveLength(19);
  });
});
