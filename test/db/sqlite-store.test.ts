import { accessContract } from '../contracts/access.contract.ts';
import { allocatorsContract } from '../contracts/allocators.contract.ts';
import { reportedContract } from '../contracts/reported.contract.ts';
import { historyContract } from '../contracts/history.contract.ts';
import { lifecycleContract } from '../contracts/lifecycle.contract.ts';
import { listsContract } from '../contracts/lists.contract.ts';
import { provenanceContract } from '../contracts/provenance.contract.ts';
import { storeContract } from '../contracts/store.contract.ts';
import { temporaryStore } from '../support/temporary-store.ts';

storeContract('SQLite', () => temporaryStore());
historyContract('SQLite', () => temporaryStore());
accessContract('SQLite', () => temporaryStore());
lifecycleContract('SQLite', () => temporaryStore());
provenanceContract('SQLite', () => temporaryStore());
listsContract('SQLite', () => temporaryStore());
allocatorsContract('SQLite', () => temporaryStore());
reportedContract('SQLite', () => temporaryStore());
