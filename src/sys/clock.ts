import { SysError } from './errno.ts';
import { libc } from './libc.ts';

/** struct timex of 64-bit Linux: 208 bytes, `status` at 40. */
const timexBytes = 208;
const statusAt = 40;
const STA_UNSYNC = 0x40;

/** Whether somebody (an NTP daemon, the hypervisor) keeps this host's wall clock right, as far as the kernel was told. */
export function isClockSynchronised(): boolean {
  const timex = new Uint8Array(new ArrayBuffer(timexBytes));
  // modes = 0: only reads, which needs no privilege. The answer is the clock's state, or -1.
  if (libc().adjtimex(timex) < 0) throw new SysError('adjtimex', libc().errno());
  return (new DataView(timex.buffer).getInt32(statusAt, true) & STA_UNSYNC) === 0;
}
