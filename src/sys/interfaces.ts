import { libc } from './libc.ts';

/** Number of a network device of this namespace, which a device that is made anew does not share; 0: there is none. */
export const interfaceIndex = (name: string): number => libc().ifNameToIndex(name);
