import { describe, expect, it, vi } from 'vitest';
import { lightly, resolveInDrizzle } from '../../src/db/light-import.ts';

const drizzle = 'file:///app/node_modules/drizzle-orm';
const resolved = (specifier: string, parentURL: string | undefined) => {
  const byNode = vi.fn(() => ({ url: 'what Node.js says' }));
  return resolveInDrizzle(specifier, { parentURL, conditions: [], importAttributes: {} }, byNode);
};

describe('modules that are imported lightly', () => {
  it('are the very ones that they are otherwise', async () => {
    const light = await lightly(() => import('drizzle-orm/sqlite-core'));
    expect(light.sqliteTable).toBe((await import('drizzle-orm/sqlite-core')).sqliteTable);
    expect((await lightly(() => import('drizzle-orm'))).sql).toBe((await import('drizzle-orm')).sql);
  });

  it.each([
    ['./sql/sql.js', `${drizzle}/index.js`, `${drizzle}/sql/sql.js`],
    ['../entity.js', `${drizzle}/sqlite-core/table.js`, `${drizzle}/entity.js`],
  ])('are found beside each other without a package.json: %s', (specifier, parent, url) => {
    expect(resolved(specifier, parent)).toEqual({ url, format: 'module', shortCircuit: true });
  });

  it.each([
    ['of another package', './core.js', 'file:///app/node_modules/zod/index.js'],
    ['of a package of its own', './a.js', `${drizzle}/node_modules/other/index.js`],
    ['by their name', 'better-sqlite3', `${drizzle}/better-sqlite3/driver.js`],
    ['outside', '../zod/index.js', `${drizzle}/index.js`],
    ['that are no modules', './index.cjs', `${drizzle}/index.js`],
    ['that no module asks for', './index.js', undefined],
  ])('are left to Node.js where they are %s', (_what, specifier, parent) => {
    expect(resolved(specifier, parent)).toEqual({ url: 'what Node.js says' });
  });
});
