import { accessContract } from '../contracts/access.contract.ts';
import { allocatorsContract } from '../contracts/allocators.contract.ts';
import { reportedContract } from '../contracts/reported.contract.ts';
import { historyContract } from '../contracts/history.contract.ts';
import { lifecycleContract } from '../contracts/lifecycle.contract.ts';
import { listsContract } from '../contracts/lists.contract.ts';
import { provenanceContract } from '../contracts/provenance.contract.ts';
import { storeContract } from '../contracts/store.contract.ts';
import { MemoryStore } from '../support/memory-store.ts';

const open = async () => {
  const store = new MemoryStore();
  return { store, [Symbol.asyncDispose]: () => store.close() };
};

storeContract('memory', open);
historyContract('memory', open);
accessContract('memory', open);
lifecycleContract('memory', open);
provenanceContract('memory', open);
listsContract('memory', open);
allocatorsContract('memory', open);
reportedContract('memory', open);
