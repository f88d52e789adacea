import { storeContract } from '../contracts/store.contract.ts';
import { MemoryStore } from '../support/memory-store.ts';

storeContract('memory', async () => {
  const store = new MemoryStore();
  return { store, [Symbol.asyncDispose]: () => store.close() };
});
