import type { Slice } from '../leases/model.ts';
import type { Reader } from '../leases/store.ts';

/**
 * Whoever keeps a table grants in its slices, and the rows call that one `server`. To whoever asks a broker, its slices are
 * what they are everywhere else: allocated by the machine.
 */
const own = (slice: Slice): Slice => ({ ...slice, allocator: 'machine' });

export function asOwn(reader: Reader): Reader {
  const replaced: Pick<Reader, 'slice' | 'slices'> = {
    slice: async (id) => {
      const found = await reader.slice(id);
      return found && own(found);
    },
    slices: async ({ allocator, ...filter }, page) => {
      if (allocator === 'server') return { items: [], next: null };
      const { items, next } = await reader.slices(filter, page);
      return { items: items.map(own), next };
    },
  };
  return new Proxy(reader, {
    get: (target, key) => {
      if (key === 'slice' || key === 'slices') return replaced[key];
      const value: unknown = Reflect.get(target, key);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
