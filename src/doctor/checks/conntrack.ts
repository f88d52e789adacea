import { parseAddress } from '../../net/address.ts';
import { defineCheck, some, type Check } from '../check.ts';
import { isInPools } from './nftables.ts';

const full_ratio = 0.9;

export const conntrackChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'conntrack-rewrites',
      title: 'connection tracking translates to or from leased ports',
      why: 'As long as such an entry lives, a socket on the same 5-tuple is moved to another port without being told, even after the NAT rule is gone.',
      remedy: 'Mend the NAT rule (see `nat`), then delete the entries: `conntrack -D …`.',
      worst: 'error',
    },
    ['conntrack', 'scope'],
    ({ conntrack, scope }) => {
      const isOurs = (text: string) => {
        const address = parseAddress(text);
        return address.ok && isInPools(scope, address.value);
      };
      const hit = conntrack.rewritten.filter(({ sent, seen }) => isOurs(sent.address) || isOurs(seen.address));
      const [first] = hit;
      if (first === undefined) return [];
      const told = hit.map(
        ({ protocol, sent, seen, remote }) =>
          `${protocol} ${sent.address}:${sent.port} as ${seen.address}:${seen.port} to ${remote.address}:${remote.port}`,
      );
      const addresses = [...new Set(hit.map(({ seen }) => seen.address))];
      const what = `${hit.length}${conntrack.isWhole ? '' : ' or more'} translated connections: ${some(told)}`;
      return [
        { severity: 'error', what, mend: addresses.map((each) => `conntrack -D --reply-dst ${each}`).join('; ') },
      ];
    },
  ),
  defineCheck(
    {
      id: 'conntrack-full',
      title: 'the table of connection tracking is almost full',
      why: 'When it is full, new connections of proxies are dropped: datagrams fail with EPERM, connect() times out without an error.',
      remedy: 'Raise `net.netfilter.nf_conntrack_max`, or keep leased traffic out of tracking (`notrack`).',
      worst: 'warning',
    },
    ['conntrack'],
    ({ conntrack: { count, max } }) => {
      if (max === 0 || count < max * full_ratio) return [];
      const mend = `sysctl -w net.netfilter.nf_conntrack_max=${max * 2}`;
      return [{ severity: 'warning', what: `${count} of ${max} entries are in use`, mend }];
    },
  ),
];
