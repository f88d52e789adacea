import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

/** The folder with package.json. */
export const root = join(import.meta.dirname, '..', '..');

const notOurs = ['node_modules', '.git', 'dist', 'coverage', 'data'];

/** Every file of the project under `folder`, as paths relative to the root with forward slashes, sorted. */
export function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .filter((entry) => !notOurs.includes(entry.name) && !entry.name.startsWith('.install-lock'))
    .flatMap((entry) => {
      const path = relative(root, join(root, folder, entry.name)).replaceAll('\\', '/');
      return entry.isDirectory() ? filesUnder(path) : [path];
    })
    .sort();
}
