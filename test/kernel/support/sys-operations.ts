import { readlinkSync, writeFileSync } from 'node:fs';
import { enterNetns } from '../../../src/sys/netns.ts';
import { deviceOperations } from './sys-devices.ts';
import { passingOperations } from './sys-passing.ts';
import { programOperations } from './sys-programs.ts';
import { routingOperations } from './sys-routing.ts';
import { socketOperations } from './sys-sockets.ts';
import { tableOperations } from './sys-tables.ts';

/** All that a test can ask of a process inside a namespace. */
export const operations = {
  ready: () => process.pid,
  /** From now on it is that user's process, for good. */
  become(uid: number) {
    process.setgroups?.([]);
    process.setgid?.(uid);
    process.setuid?.(uid);
  },
  sysctl: (name: string, value: string) => writeFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, value),
  /** Moves the process's main thread; the names of the namespaces before and after. */
  enterNetns(path: string): string[] {
    const before = readlinkSync('/proc/thread-self/ns/net');
    enterNetns(path);
    return [before, readlinkSync('/proc/thread-self/ns/net')];
  },
  ...socketOperations,
  ...deviceOperations,
  ...tableOperations,
  ...passingOperations,
  ...routingOperations,
  ...programOperations,
};

export type Operations = typeof operations;
