import { links, type Lab } from '../../demo/lab.ts';

/** The ends of the lab's cables: namespace and interface of each. */
export const cableEnds = (lab: Lab): readonly (readonly [namespace: string, link: string])[] => [
  [lab.client, links.client],
  [lab.host, links.hostToClient],
  [lab.host, links.hostToOrigin],
  [lab.origin, links.origin],
];
