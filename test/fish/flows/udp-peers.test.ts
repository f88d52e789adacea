import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { FlowMemory } from '../../../src/fish/flows/flow-memory.ts';
import { seeded } from '../../support/fish.ts';
import { UdpPeers } from '../../../src/fish/flows/udp-peers.ts';

const flows = 4;
const max = 8;
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ flow: fc.nat({ max: flows - 1 }), remote: fc.nat({ max: 4 }), port: fc.nat({ max: 1 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ flow: fc.nat({ max: flows - 1 }), remote: fc.constant(null), port: fc.constant(0) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ flow: fc.constant(null), remote: fc.nat({ max: flows - 1 }), port: fc.constant(0) }),
  },
);

test.prop([fc.array(step, { maxLength: 100 })], { numRuns: 500 })(
  'peers agree with a set of pairs, up to their number, also those taken over from a former process',
  (steps) => {
    const { columns } = FlowMemory.local({ flowsMax: flows, blocksMax: 1, peersMax: max, addressesMax: 0 });
    const adopt = (gone?: number): UdpPeers => {
      const adopted = new UdpPeers(flows, columns.peers, seeded(1));
      for (let entry = 0; entry < max; entry++) adopted.adopt(entry, (flow) => flow !== gone);
      return adopted;
    };
    let peers = adopt();
    const model = new Set<string>();
    for (const { flow, remote, port } of steps) {
      if (flow === null) {
        // One of the flows did not make it.
        peers = adopt(remote);
        for (const pair of model) if (pair.startsWith(`${remote} `)) model.delete(pair);
      } else if (remote === null) {
        peers.forget(flow);
        for (const pair of model) if (pair.startsWith(`${flow} `)) model.delete(pair);
      } else {
        const fits = model.has(`${flow} ${remote} ${port}`) || model.size < max;
        expect(peers.add(flow, remote, port)).toBe(fits);
        if (fits) model.add(`${flow} ${remote} ${port}`);
      }
      for (let f = 0; f < flows; f++)
        for (let r = 0; r <= 4; r++)
          for (const p of [0, 1]) expect(peers.has(f, r, p)).toBe(model.has(`${f} ${r} ${p}`));
    }
  },
);
