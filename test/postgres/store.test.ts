import { afterAll, beforeAll } from 'vitest';
import { storeContract } from '../contracts/store.contract.ts';
import { temporaryDatabase, type TemporaryDatabase } from '../support/postgres/database.ts';

let database: TemporaryDatabase;
beforeAll(async () => void (database = await temporaryDatabase()));
afterAll(() => database[Symbol.asyncDispose]());

storeContract('PostgreSQL', async () => {
  await database.clear();
  const store = await database.open({ clock: 'server' });
  return { store, [Symbol.asyncDispose]: () => store.close() };
});
