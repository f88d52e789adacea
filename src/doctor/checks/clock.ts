import { defineCheck, type Check, type Finding } from '../check.ts';

const skew_s_max = 5;
const slept_s_max = 1;
const future_s_max = 60;

export const clockChecks: readonly Check[] = [
  defineCheck(
    {
      id: 'clock-unsynchronised',
      title: 'nobody keeps the clock right',
      why: 'Leases do not hang on the wall clock (the horizon counts on CLOCK_BOOTTIME), but attribution, flow logs and certificates do: who had a port when is asked by wall clock.',
      remedy: 'Run an NTP client: `apt-get install systemd-timesyncd`, or chrony.',
      worst: 'warning',
    },
    ['clock'],
    ({ clock }) =>
      clock.isSynchronised
        ? []
        : [
            {
              severity: 'warning',
              what: 'the kernel was told of no synchronisation (adjtimex: STA_UNSYNC)',
              mend: 'apt-get install systemd-timesyncd; timedatectl set-ntp true',
            },
          ],
  ),
  defineCheck(
    {
      id: 'clock-jumped',
      title: 'the wall clock went back',
      why: 'What was written before the jump is from the future now: logs and attribution of that time overlap.',
      remedy: 'Set the clock right at boot, before the agent starts (`After=time-sync.target`).',
      worst: 'warning',
    },
    ['clock', 'setup'],
    ({ clock, setup }): readonly Finding[] => {
      if (clock.stateFromFuture_s <= future_s_max) return [];
      const what = `the newest file in ${setup.stateDir} is ${Math.round(clock.stateFromFuture_s)} s from the future`;
      return [{ severity: 'warning', what, mend: 'see that the clock is right now: timedatectl' }];
    },
  ),
  defineCheck(
    {
      id: 'clock-skew',
      title: "this host's clock is not the server's",
      why: 'A port is attributed by the times of both: with a skew the answer for an instant may be the neighbour. A certificate may seem not yet valid, or expired.',
      remedy: 'Synchronise both.',
      worst: 'warning',
    },
    ['server'],
    ({ server }) => {
      const { ahead_s } = server;
      if (ahead_s === null || Math.abs(ahead_s) <= skew_s_max) return [];
      const what = `the server's clock is ${Math.abs(Math.round(ahead_s))} s ${ahead_s > 0 ? 'ahead of' : 'behind'} ours`;
      return [{ severity: 'warning', what, mend: 'timedatectl on both; correct the one that is wrong' }];
    },
  ),
  defineCheck(
    {
      id: 'sleeps',
      title: 'this host sleeps',
      why: 'While it sleeps no keepalive goes out: the guard shuts, fish’s session ends, its leases go to others. A virtual machine that is paused from outside cannot even fence itself.',
      remedy: 'Switch suspend off: `systemctl mask sleep.target suspend.target hibernate.target`.',
      worst: 'info',
    },
    ['clock'],
    ({ clock }) =>
      clock.slept_s <= slept_s_max
        ? []
        : [
            {
              severity: 'info',
              what: `it slept ${Math.round(clock.slept_s)} s since it started`,
              mend: 'systemctl mask sleep.target suspend.target hibernate.target',
            },
          ],
  ),
];
