import { readFileSync } from 'node:fs';
import { EINTR } from './constants.ts';
import { SysError } from './errno.ts';
import { NETLINK_NETFILTER, Netlink } from './netlink.ts';
import { readChain, writeAllChainsDump } from './nft-table-message.ts';

const dumpAttempts_max = 10;
/** Hook numbers of IPv4, IPv6 and inet are the same: NF_INET_POST_ROUTING. */
const postrouting = 4;
/** The tables that iptables of the old kind has loaded here; the files are there only where its modules are. */
const legacyTables = ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names'] as const;

/**
 * Whether anybody but inet table `own` has source NAT on this network namespace: a chain of type nat where packets leave, of
 * nftables or iptables of either kind. Its rules are not looked at. Throws SysError.
 */
export function othersTranslate(own: string): boolean {
  return hasLegacyNat() || hasNatChain(own);
}

function hasNatChain(own: string): boolean {
  const netlink = new Netlink(NETLINK_NETFILTER);
  try {
    for (let attempt = 0; attempt < dumpAttempts_max; attempt++) {
      let isFound = false;
      writeAllChainsDump(netlink.start());
      const end = netlink.dump((message, buffer) => {
        const chain = readChain(buffer, message);
        if (chain?.type !== 'nat' || chain.hook !== postrouting) return;
        isFound ||= !(chain.isInet && chain.table === own);
      });
      if (end.errno !== 0 && end.errno !== EINTR) throw new SysError('nft list chains', end.errno, end.text);
      if (end.errno === 0 && !end.interrupted) return isFound;
    }
    throw new SysError('nft list chains', EINTR, `they changed during ${dumpAttempts_max} readings`);
  } finally {
    netlink.close();
  }
}

const hasLegacyNat = (): boolean =>
  legacyTables.some((path) => {
    try {
      return readFileSync(path, 'utf8').split('\n').includes('nat');
    } catch {
      return false;
    }
  });
