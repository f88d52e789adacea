import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { UdpPeers } from '../../src/fish/udp-peers.ts';

const flows = 4;
const max = 8;
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ flow: fc.nat({ max: flows - 1 }), remote: fc.nat({ max: 6 }) }) },
  { weight: 1, arbitrary: fc.record({ flow: fc.nat({ max: flows - 1 }), remote: fc.constant(null) }) },
);

test.prop([fc.array(step, { maxLength: 100 })], { numRuns: 500 })(
  'peers agree with a set of pairs, up to their number',
  (steps) => {
    const peers = new UdpPeers(flows, max);
    const model = new Set<string>();
    for (const { flow, remote } of steps) {
      if (remote === null) {
        peers.forget(flow);
        for (const pair of model) if (pair.startsWith(`${flow} `)) model.delete(pair);
      } else {
        const fits = model.has(`${flow} ${remote}`) || model.size < max;
        expect(peers.add(flow, remote)).toBe(fits);
        if (fits) model.add(`${flow} ${remote}`);
      }
      for (let f = 0; f < flows; f++) for (let r = 0; r <= 6; r++) expect(peers.has(f, r)).toBe(model.has(`${f} ${r}`));
    }
  },
);
