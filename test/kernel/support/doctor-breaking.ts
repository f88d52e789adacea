import type { DoctorLab } from './doctor-lab.ts';

/**
 * For each check: how to break a host in exactly that way, what the doctor then says, and how to undo it. Where the doctor
 * mends by itself (`fixes`), it is seen to.
 */
export type Case = Readonly<{
  id: string;
  /** Several ways to break one thing are told apart by this. */
  how: string;
  break: (d: DoctorLab) => Promise<unknown> | string;
  /** Of what is found. */
  says: RegExp;
  severity: string;
  /** After it nothing of the kind is found; not needed where `fixes`. */
  undo?: (d: DoctorLab) => Promise<unknown> | string;
  fixes?: true;
  /** What stays in place for this case. */
  settings?: object;
  slices?: readonly string[];
  /** What is left after undoing: `none`, or a milder finding. */
  after?: 'none' | 'info';
}>;

export const sh = (command: string, input?: string) => (d: DoctorLab) => d.shell(command, input);
export const set = (key: string, value: string) => sh(`sysctl -qw ${key}="${value}"`);
export const nft = (text: string) => sh('nft -f -', text);
export const over = (path: string, text: string) =>
  sh(`printf '${text}' > $WORK/over.$$; mount --bind $WORK/over.$$ ${path}`);
export const uncover = (path: string) => sh(`umount ${path}`);
export const noTable = (name: string) => sh(`nft delete table ${name}`);
export const closeAll = (d: DoctorLab) => d.ask({ op: 'close-all' });
export const tun = 'ip tuntap add dev fishtun mode tun';
export const noTun = sh('ip link delete fishtun');
export const guard = (more = '') => `
table inet fishery {
  ${more}
  chain guard {
    type filter hook postrouting priority 300
    oif "lo" accept
  }
}
`;
