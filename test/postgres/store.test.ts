import { afterAll, beforeAll } from 'vitest';
import { accessContract } from '../contracts/access.contract.ts';
import { allocatorsContract } from '../contracts/allocators.contract.ts';
import { reportedContract } from '../contracts/reported.contract.ts';
import { historyContract } from '../contracts/history.contract.ts';
import { lifecycleContract } from '../contracts/lifecycle.contract.ts';
import { listsContract } from '../contracts/lists.contract.ts';
import { provenanceContract } from '../contracts/provenance.contract.ts';
import { storeContract } from '../contracts/store.contract.ts';
import { temporaryDatabase, type TemporaryDatabase } from '../support/postgres/database.ts';

let database: TemporaryDatabase;
beforeAll(async () => void (database = await temporaryDatabase()));
afterAll(() => database[Symbol.asyncDispose]());

const open = async () => {
  await database.clear();
  const store = await database.open({ clock: 'server' });
  return { store, [Symbol.asyncDispose]: () => store.close() };
};

storeContract('PostgreSQL', open);
historyContract('PostgreSQL', open);
accessContract('PostgreSQL', open);
lifecycleContract('PostgreSQL', open);
provenanceContract('PostgreSQL', open);
listsContract('PostgreSQL', open);
allocatorsContract('PostgreSQL', open);
reportedContract('PostgreSQL', open);
