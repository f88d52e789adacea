import { FisheryClient } from '../../src/sdk/index.ts';

/** A method of the client: where it is, and the request that it makes. */
export type ClientMethod = Readonly<{ name: string; method: string; path: string }>;

/** Stands for every argument: a name in a path, something seen, a body, options, a signal; in a query it is nothing. */
function anyArgument(): object {
  return Object.defineProperties(new AbortController().signal, {
    id: { value: 'anything' },
    revision: { value: 1 },
    token: { value: '1.1.1' },
    toString: { value: () => 'anything' },
    toJSON: { value: () => ({}) },
  });
}

/** Every method of the client that makes a request, found by calling each. */
export async function clientMethods(): Promise<readonly ClientMethod[]> {
  const seen: Omit<ClientMethod, 'name'>[] = [];
  const client = new FisheryClient({
    url: 'http://127.0.0.1',
    token: 't',
    attemptsMax: 1,
    fetch: async (input, init) => {
      const url = new URL(input instanceof Request ? input.url : input);
      seen.push({ method: init?.method ?? 'GET', path: decodeURIComponent(url.pathname) });
      return new Response('{}', { headers: { 'content-type': 'application/json' } });
    },
  });
  const found: ClientMethod[] = [];
  for (const [name, owner, method] of methodsOf(client)) {
    // What it makes of an answer that it did not expect is not the question here.
    await Promise.resolve(Reflect.apply(method, owner, Array.from({ length: 4 }, anyArgument))).catch(() => {});
    for (const request of seen.splice(0)) found.push({ name, ...request });
  }
  return found;
}

type Method = (...args: readonly unknown[]) => unknown;
const isMethod = (value: unknown): value is Method => typeof value === 'function';

function* methodsOf(client: FisheryClient): Generator<readonly [string, object, Method]> {
  for (const [group, members] of Object.entries(client) as readonly (readonly [string, object])[])
    for (const [name, member] of Object.entries(members))
      if (isMethod(member)) yield [`${group}.${name}`, members, member];
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(FisheryClient.prototype)))
    // `saw` takes what others know; it asks nobody.
    if (isMethod(value) && name !== 'constructor' && name !== 'saw') yield [name, client, value];
}
