import type { Extent, Lease, Slice } from '../../src/leases/model.ts';
import type { Store } from '../../src/leases/store.ts';
import { at, shared, tcp, World } from './world.ts';

export type GuardScene = Readonly<{ slice: Slice; exclusive: Lease; joint: Lease; free: Extent }>;

/** An exclusive lease at 3072-4095, a shared block at 2560-3071 with one member, free ports below. */
export async function setGuardScene(store: Store): Promise<GuardScene> {
  const world = new World(store);
  await world.pool('v4', ['198.51.100.0/32']);
  await world.machine('edge-1');
  await world.holder('edge-1', 'web');
  const [slice] = await world.ready('edge-1', 'v4');
  const web = await world.session('edge-1', 'web');
  const [exclusive, joint] = await world.leases(web, tcp(1_024), shared(512));
  if (!slice || !exclusive || !joint) throw new Error('no leases');
  await world.leases(web, shared(64, { binding: 'late', ...at('198.51.100.0', 2_048) }));
  const { extents } = await world.store.reader.tiling(exclusive.slice);
  const free = extents.find((extent) => extent.protocol === 'tcp');
  if (!free) throw new Error('no extent');
  return { slice, exclusive, joint, free };
}
