import type { FisheryClient, PageOptions } from '../../sdk/index.ts';
import type { Page } from '../../wire/lists.ts';

/** More than this nobody looks through; the first of them still show what names look like. */
const names_max = 200;

type Known = Readonly<Record<string, string>>;
type Named = Readonly<{ id: string } | { name: string }>;
type Source = (client: FisheryClient, page: PageOptions, known: Known) => Promise<Page<Named>> | undefined;

/** Where the names of things come from, by what an argument or a flag is called. */
const sources: Readonly<Record<string, Source>> = {
  pool: (client, page) => client.pools.list(page),
  machine: (client, page) => client.machines.list(page),
  holder: (client, page, { machine }) => (machine === undefined ? undefined : client.machines.holders(machine, page)),
  slice: (client, page) => client.slices.list(page),
  session: (client, page) => client.sessions.list({ ...page, state: 'live' }),
  lease: (client, page) => client.leases.list(page),
  router: (client, page) => client.routers.list(page),
  token: (client, page) => client.tokens.list(page),
};

/** How the names for this argument are had; undefined when it names nothing that a server knows. */
export function namesOf(
  name: string,
): ((client: FisheryClient, known: Known) => Promise<readonly string[]>) | undefined {
  const source = Object.hasOwn(sources, name) ? sources[name] : undefined;
  return (
    source &&
    (async (client, known) => {
      const page = await source(client, { limit: names_max }, known);
      return page?.items.map((item) => ('id' in item ? item.id : item.name)) ?? [];
    })
  );
}
