import { describe, expect, it } from 'vitest';
import { inOneLine } from '../../src/cli/output/one-line.ts';
import type { Holder } from '../../src/wire/machines.ts';
import type { Slice } from '../../src/wire/slices.ts';
import type { TokenInfo } from '../../src/wire/tokens.ts';

const at = '2027-01-15T08:00:00.000000Z';
const holder: Holder = {
  ...{ machine: 'm1', name: 'web', kind: 'proxy', uid: 1_000, cgroup: null, limits: null },
  ...{ created_at: at, updated_at: at, revision: 4 },
};
const token: TokenInfo = {
  ...{ id: 'token-2', name: 'ci', role: 'viewer', machine: null, holder: null, router: null, created_at: at },
  limits: { requests_per_s: null, requests_burst: null, watchers_max: null },
  ...{ rotated_at: null, former_secret_until: null, expires_at: null, revoked_at: null, last_used_at: null },
};
const slice: Slice = {
  ...{ id: 'slice-1', pool: 'fra1', address: '198.51.100.0', ports: { first: 8_192, last: 10_239 }, machine: 'm1' },
  ...{ state: 'draining', generation: 1, allocator: 'server', draining_since: at, drain_by: null, next: null },
  ...{ reclaimed: false, assigned_at: at, reusable_at: null, revision: 9 },
  route: { state: 'none', revision: 9, since: at },
};

describe('a thing in one line', () => {
  it('says what was deleted', () => {
    expect(inOneLine({ what: 'holder', id: 'h5', machine: 'm1' })).toBe('holder h5 m1');
    expect(inOneLine({ what: 'router', id: 'm1' })).toBe('router m1');
  });

  it('tells holders of another uid and other limits apart', () => {
    expect(inOneLine(holder)).toBe('web m1 kind=proxy uid=1000');
    expect(inOneLine({ ...holder, uid: null })).toBe('web m1 kind=proxy');
    expect(inOneLine({ ...holder, uid: null, cgroup: 'web.slice' })).toBe('web m1 kind=proxy cgroup=web.slice');
    const limits = { ports_min: {}, ports_max: { tcp: 512, udp: 64 }, sessions_max: 0 };
    expect(inOneLine({ ...holder, limits })).toBe('web m1 kind=proxy uid=1000 ports_max=tcp:512,udp:64 sessions_max=0');
  });

  it('tells a token that was made from one that is limited, rotated or revoked', () => {
    expect(inOneLine(token)).toBe('token-2 ci role=viewer');
    const limits = { ...token.limits, requests_per_s: 5 };
    expect(inOneLine({ ...token, limits })).toBe('token-2 ci role=viewer requests_per_s=5');
    expect(inOneLine({ ...token, rotated_at: at })).toBe(`token-2 ci role=viewer rotated_at=${at}`);
    expect(inOneLine({ ...token, revoked_at: at })).toBe(`token-2 ci role=viewer revoked_at=${at}`);
  });

  it('says who grants in a slice, where it goes, and by when', () => {
    const begin = 'slice-1 m1 fra1 198.51.100.0 8192-10239 draining generation=1 allocator=server';
    expect(inOneLine(slice)).toBe(begin);
    expect(inOneLine({ ...slice, next: { machine: 'm2', allocator: 'server' } })).toBe(`${begin} next=m2@server`);
    const own = { ...slice, next: { machine: 'm1', allocator: 'machine' }, drain_by: at };
    expect(inOneLine(own)).toBe(`${begin} next=m1@machine drain_by=${at}`);
  });

  it('lets nothing of it steer the terminal', () => {
    const next = { machine: '\u001b[2J', allocator: '\u0007' };
    expect(inOneLine({ ...slice, next })).toContain('next=\\u001b[2J@\\u0007');
  });
});
