import { registerHooks, type ResolveHookSync } from 'node:module';

const inDrizzle = /\/node_modules\/drizzle-orm\/(?!node_modules\/)[^?#]*\.js$/;

/**
 * Imports what uses Drizzle. Node.js 24 parses the whole package.json of a package for every import that leads to one of its
 * modules; that of drizzle-orm is of 180 kB, and its modules import each other four hundred times: a third of a second of
 * each start. What one of them imports by a relative path is found without.
 */
export async function lightly<Module>(load: () => Promise<Module>): Promise<Module> {
  const hooks = registerHooks({ resolve: resolveInDrizzle });
  try {
    return await load();
  } finally {
    hooks.deregister();
  }
}

export const resolveInDrizzle: ResolveHookSync = (specifier, context, nextResolve) => {
  const { parentURL } = context;
  if (parentURL === undefined || !/^\.\.?\/.*\.js$/.test(specifier) || !inDrizzle.test(parentURL))
    return nextResolve(specifier, context);
  const { href } = new URL(specifier, parentURL);
  return inDrizzle.test(href) ? { url: href, format: 'module', shortCircuit: true } : nextResolve(specifier, context);
};
