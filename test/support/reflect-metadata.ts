/**
 * The few functions of the "reflect metadata" proposal that the certificate library's injection container asks for when it
 * is loaded. To be imported before it.
 */
type Key = string | symbol;
const metadata = new WeakMap<object, Map<Key, unknown>>();

const getOwnMetadata = (key: Key, target: object): unknown => metadata.get(target)?.get(key);

function getMetadata(key: Key, target: object): unknown {
  for (let at: object | null = target; at !== null; at = Reflect.getPrototypeOf(at)) {
    const found = getOwnMetadata(key, at);
    if (found !== undefined) return found;
  }
  return undefined;
}

function defineMetadata(key: Key, value: unknown, target: object): void {
  const own = metadata.get(target) ?? new Map<Key, unknown>();
  metadata.set(target, own.set(key, value));
}

Object.assign(Reflect, {
  getMetadata,
  getOwnMetadata,
  defineMetadata,
  metadata: (key: Key, value: unknown) => (target: object) => defineMetadata(key, value, target),
});
