import { z } from 'zod';
import { parseAddress, type Address } from '../../net/address.ts';
import { parsePorts, portMax } from '../../net/ports.ts';
import { hostPrefix, parsePrefix, type Prefix } from '../../net/prefix.ts';
import { protocols } from '../../net/protocol.ts';
import type { Result } from '../../net/result.ts';
import { parseSelector } from '../../net/selector.ts';
import { formatInstant, parseInstant } from '../../wire/instants.ts';
import type { PoolRouters } from '../../wire/routers.ts';
import { Name } from '../../wire/primitives.ts';

/**
 * What the API takes as objects, as one word each on a command line. These are schemas of flags: text in, the API's own
 * form out.
 */

/** A schema of text that a parser reads. */
const read = <T>(parse: (text: string) => Result<T, string>) =>
  z.string().transform((text, context): T => {
    const parsed = parse(text);
    if (parsed.ok) return parsed.value;
    context.addIssue({ code: 'custom', message: parsed.error });
    return z.NEVER;
  });

const bad = (error: string) => ({ ok: false, error }) as const;
const good = <T>(value: T) => ({ ok: true, value }) as const;

/** `1024-65535`, or a single port. */
export const portsField = read(parsePorts);

/** `198.51.100.10:8192`, `[2001:db8::1]:8192`. */
export function parsePlace(text: string): Result<Readonly<{ address: Address; port: number }>, string> {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const address = parseAddress(match?.[1] ?? match?.[2] ?? '');
  const port = Number(match?.[3]);
  return match && address.ok && port <= portMax
    ? good({ address: address.value, port })
    : bad(`"${text}" is no address and port like 198.51.100.10:8192 or [2001:db8::1]:8192`);
}

/** The first port of a block, as the API asks for it. */
export const placeField = read((text) => {
  const place = parsePlace(text);
  return place.ok ? good({ address: place.value.address, first_port: place.value.port }) : place;
});

/** `198.51.100.10:9001/tcp`. */
export function parseEndpoint(text: string) {
  const [where = '', protocol] = text.split('/');
  const place = parsePlace(where);
  const known = protocols.find((name) => name === protocol);
  if (!place.ok || known === undefined || text.split('/').length !== 2)
    return bad(`"${text}" is no address, port and protocol like 198.51.100.10:9001/tcp`);
  return good({ ...place.value, protocol: known });
}

/** `198.51.100.10:9001`, with `/tcp` or without. */
export const endpointField = read((text) => (text.includes('/') ? parseEndpoint(text) : parsePlace(text)));

/** `site=fra1`, repeated. */
export const labelsField = z.array(z.string()).transform((texts, context): Record<string, string> => {
  const labels: Record<string, string> = {};
  texts.forEach((text, index) => {
    const at = text.indexOf('=');
    const key = text.slice(0, Math.max(0, at));
    if (key === '' || key in labels)
      context.addIssue({
        code: 'custom',
        path: [index],
        message: key === '' ? 'expected KEY=VALUE' : `"${key}" is given twice`,
      });
    else labels[key] = text.slice(at + 1);
  });
  return labels;
});

/** `site=fra1,tier in (a,b)`: checked here, and sent as it was typed. */
export const selectorField = z.string().superRefine((text, context) => {
  const parsed = parseSelector(text);
  if (!parsed.ok) context.addIssue({ code: 'custom', message: parsed.error });
});

/** The flags by which labels that are there are changed. */
export const labelChanges = {
  label: labelsField.default({}).meta({ description: 'Label to set, as KEY=VALUE' }),
  unlabel: z.array(z.string()).default([]).meta({ description: 'Label to take away' }),
};
type LabelChanges = Readonly<{ label: Readonly<Record<string, string>>; unlabel: readonly string[] }>;

export const changedLabels = (before: Readonly<Record<string, string>>, { label, unlabel }: LabelChanges) =>
  Object.fromEntries(Object.entries({ ...before, ...label }).filter(([key]) => !unlabel.includes(key)));

/** `198.51.100.10`, `198.51.100.0/28`, and with ports `198.51.100.10@5000-5099`: what a pool leaves out. */
export const carveOutField = read((text) => {
  const [where = '', range, ...more] = text.split('@');
  const prefix = where.includes('/') ? parsePrefix(where) : prefixOf(parseAddress(where));
  const ports = range === undefined ? good(null) : parsePorts(range);
  if (!prefix.ok || !ports.ok || more.length > 0)
    return bad(
      `"${text}" is no address, prefix or ports of one, like 198.51.100.10, 198.51.100.0/28 or 198.51.100.10@5000-5099`,
    );
  return good({ prefix: prefix.value, ports: ports.value });
});

const prefixOf = (address: Result<Address, string>): Result<Prefix, string> =>
  address.ok ? good(hostPrefix(address.value)) : address;

/**
 * `fra1=2`, `fra1/4=2` (IPv4 alone), `{site=fra1,tier}=2` (pools with such labels): so many slices are wanted; with
 * `@machine` behind it, for the machine to grant in itself.
 */
export const wantField = read((text) => {
  const match = /^(?:\{(.+)\}|([^{}/=]+))(?:\/([46]))?=(\d{1,4})(?:@(server|machine))?$/.exec(text);
  const [, select, pool, family, slices, allocator] = match ?? [];
  if (!match) return bad(`"${text}" is no want like fra1=2, fra1/4=2, {site=fra1}=2 or fra1=2@machine`);
  return good({
    ...(pool === undefined ? {} : { pool }),
    ...(select === undefined ? {} : { select }),
    ...(family === undefined ? {} : { family: family === '4' ? (4 as const) : (6 as const) }),
    ...(allocator === undefined
      ? {}
      : { allocator: allocator === 'machine' ? ('machine' as const) : ('server' as const) }),
    slices: Number(slices),
  });
});

/** `all`, `none`, or a number: at least so many. */
const policyField = read((text): Result<PoolRouters['policy'], string> => {
  if (text === 'all' || text === 'none') return good(text);
  return /^[1-9]\d?$/.test(text) ? good({ at_least: Number(text) }) : bad(`"${text}" is not all, none or a number`);
});

/** The flags that say which routers a pool waits for. */
export const routerFlags = {
  routers: policyField.optional().meta({ description: 'How many routers must acknowledge: all, none, or at least N' }),
  router: z.array(Name).default([]).meta({ description: 'One of the routers that count; default: all there are' }),
  router_select: z.string().optional().meta({ description: 'Labels of the routers that count, like site=fra1' }),
};
type RouterFlags = Readonly<{
  routers?: PoolRouters['policy'] | undefined;
  router: readonly string[];
  router_select?: string | undefined;
}>;

/** Which routers a pool waits for, as a whole; nothing where nothing of it was said. */
export function routersOf({ routers: policy, router: ids, router_select: select }: RouterFlags) {
  if (policy === undefined && ids.length === 0 && select === undefined) return {};
  const named = { ...(ids.length === 0 ? {} : { ids: [...ids] }), ...(select === undefined ? {} : { select }) };
  return { routers: { ...named, policy: policy ?? ('all' as const) } };
}

/** `120` for every protocol, or `tcp=120,udp=60`: seconds. */
export const cooldownField = read((text) => {
  if (/^\d{1,5}$/.test(text)) {
    const all_s = Number(text);
    return good({ tcp: all_s, udp: all_s, icmp: all_s });
  }
  const cooldown: Partial<Record<(typeof protocols)[number], number>> = {};
  for (const part of text.split(',')) {
    const [, name, seconds] = /^(\w+)=(\d{1,5})$/.exec(part) ?? [];
    const protocol = protocols.find((known) => known === name);
    if (protocol === undefined) return bad(`"${text}" is no cooldown like 120 or tcp=120,udp=60`);
    cooldown[protocol] = Number(seconds);
  }
  return good(cooldown);
});

/** `tcp=4096,udp=64`: how many of each protocol. */
export const countsField = read((text) => {
  const counts: Partial<Record<(typeof protocols)[number], number>> = {};
  for (const part of text.split(',')) {
    const [, name, count] = /^(\w+)=(\d{1,10})$/.exec(part) ?? [];
    const protocol = protocols.find((known) => known === name);
    if (protocol === undefined || protocol in counts) return bad(`"${text}" is not like tcp=4096 or tcp=4096,udp=64`);
    counts[protocol] = Number(count);
  }
  return good(counts);
});

const secondsPer = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

/** An instant, or how long ago it was: `2026-01-31T14:03:07Z`, `90s`, `15m`, `2h`, `7d`. */
export const instantField = read((text) => {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (count !== undefined) {
    const ago_s = Number(count) * secondsPer[unit as keyof typeof secondsPer];
    return good(formatInstant((Date.now() - ago_s * 1_000) * 1_000));
  }
  return /^\d{4}-\d\d-\d\dT\S+$/.test(text) && !Number.isNaN(parseInstant(text))
    ? good(text)
    : bad(`"${text}" is no instant like 2026-01-31T14:03:07Z, and no time ago like 15m, 2h or 7d`);
});
