import { storeContract } from '../contracts/store.contract.ts';
import { temporaryStore } from '../support/temporary-store.ts';

storeContract('SQLite', () => temporaryStore());
