import { callTool, firstLines, runTool } from '../../agent/linux/commands.ts';
import { rulesetOf } from '../../agent/host/ruleset.ts';
import { roles, senderIn } from '../../agent/host/sets.ts';
import type { Prefix } from '../../net/prefix.ts';
import { protocols } from '../../net/protocol.ts';
import { parseNft, type NftFacts } from '../nft-json.ts';

export const readNft = async (): Promise<NftFacts> => parseNft(await callTool('nft', ['-j', 'list', 'ruleset']));

/**
 * Loads the agent's ruleset with a set of every kind in a network namespace that ends with the process, and returns what
 * nft said; null when it was content. Nothing of this host is touched.
 */
export function tryRuleset(): Promise<string | null> {
  const { text } = rulesetOf({
    tun: 'fishtun',
    mark: 0x2a,
    markMask: 0xff,
    arrivals: ['eth0'],
    clients: ['eth1'],
    terminate: { port: 7_490, mark: 0x2b, paths: { rules: [], otherwise: 'terminate' } },
    prefixes: ['198.51.100.0/24', '2001:db8::/32'] as Prefix[],
    hostAddresses: [],
    keepSource: false,
    othersTranslate: false,
    classes: roles.flatMap((role) =>
      protocols.flatMap((protocol) =>
        ([4, 6] as const).map((family) => ({
          role,
          protocol,
          family,
          size: 128,
          ...(senderIn(role) === 'cgroup' && { level: 1 }),
        })),
      ),
    ),
  });
  return tryText(text);
}

const tproxyText = `table inet fishery_try {
  chain steer {
    type filter hook prerouting priority -150
    meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:7490 meta mark set 1 accept
    meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:7490 meta mark set 1 accept
  }
}
`;
/** The same of what leads connections to the terminator. */
export const tryTproxy = (): Promise<string | null> => tryText(tproxyText);

async function tryText(text: string): Promise<string | null> {
  const { code, stderr } = await runTool('unshare', ['--net', 'nft', '-f', '-'], text);
  if (code === 0) return null;
  // The scratch namespace could not be made: that says nothing about nft.
  if (stderr.startsWith('unshare:') && !stderr.includes('nft')) throw new Error(firstLines(stderr));
  return firstLines(stderr);
}
