import { storeContract } from '../contracts/store.contract.ts';
import { temporaryDatabase } from '../support/postgres/database.ts';

storeContract('PostgreSQL', async () => {
  const database = await temporaryDatabase();
  const store = await database.open({ clock: 'server' });
  return { store, [Symbol.asyncDispose]: () => database[Symbol.asyncDispose]() };
});
