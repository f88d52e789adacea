import { builtinModules } from 'node:module';
import ts from 'typescript';

/** Something that one source file takes from elsewhere, or a name it uses that not every folder may use. */
type Use = Readonly<{ kind: 'import' | 'type import' | 'computed import' | 'name'; what: string; line: number }>;

/** Names whose value changes from one look to the next, and names that are the process's surroundings. */
const watchedNames = ['Date.now', 'Math.random', 'performance.now', 'process.env', 'process.argv', 'process.hrtime'];

/** Every import of a source (static, dynamic, `export … from`, `import('…')` types) and every watched name in it. */
function usesOf(path: string, source: string): Use[] {
  const file = ts.createSourceFile(path, source, ts.ScriptTarget.Latest, true, ts.ScriptKind.TS);
  const uses: Use[] = [];
  const add = (kind: Use['kind'], what: string, node: ts.Node) =>
    uses.push({ kind, what, line: file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1 });
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier))
      add(isTypeOnly(node.importClause) ? 'type import' : 'import', node.moduleSpecifier.text, node);
    else if (ts.isExportDeclaration(node) && node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier))
      add(node.isTypeOnly ? 'type import' : 'import', node.moduleSpecifier.text, node);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      add('type import', node.argument.literal.getText(file).slice(1, -1), node);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [target] = node.arguments;
      if (target && ts.isStringLiteralLike(target)) add('import', target.text, node);
      else add('computed import', target?.getText(file) ?? '', node);
    } else if (ts.isPropertyAccessExpression(node)) {
      const name = node.getText(file);
      if (watchedNames.includes(name)) add('name', name, node);
    } else if (ts.isNewExpression(node) && node.expression.getText(file) === 'Date' && !node.arguments?.length)
      add('name', 'new Date()', node);
    ts.forEachChild(node, visit);
  };
  visit(file);
  return uses;
}

function isTypeOnly(clause: ts.ImportClause | undefined): boolean {
  if (!clause) return false;
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  const named = clause.namedBindings && ts.isNamedImports(clause.namedBindings) ? clause.namedBindings.elements : [];
  return !clause.name && named.length > 0 && named.every((element) => element.isTypeOnly);
}

export type Rules = Readonly<{
  /** Per folder or file under src/: the folders it may import from. `type ops` allows types alone. `*`: any. */
  arrows: Readonly<Record<string, readonly string[]>>;
  /** Per library (a name, or a scope with `/*`): the only folders that may import it. */
  libraries: Readonly<Record<string, readonly string[]>>;
  /** Folders without a clock, without randomness, without I/O. */
  pure: readonly string[];
  /** The only folders that may look at the process's surroundings (`process.env`, `process.argv`). */
  surroundings: readonly string[];
}>;

/** Everything in one source file under src/ that the rules forbid, one line each. `path` is like `src/net/ports.ts`. */
export function violations(rules: Rules, path: string, source: string): string[] {
  const own = path.split('/')[1] ?? '';
  // The row of the file itself is more special than that of its folder.
  const allowed = rules.arrows[path.slice('src/'.length)] ?? rules.arrows[own];
  if (!allowed) return [`${path}: the folder ${own} has no row in the table of arrows`];
  return usesOf(path, source).flatMap((use) => {
    const complaint = judge(rules, path, own, allowed, use);
    return complaint === undefined ? [] : [`${path}:${use.line}: ${complaint}`];
  });
}

function judge(rules: Rules, path: string, own: string, allowed: readonly string[], use: Use): string | undefined {
  const isPure = rules.pure.includes(own);
  if (use.kind === 'name') {
    if (use.what === 'process.env' || use.what === 'process.argv')
      return rules.surroundings.includes(own) ? undefined : `${use.what} belongs in ${rules.surroundings.join(', ')}`;
    return isPure ? `${use.what} in ${own}, which is pure: hand the value in` : undefined;
  }
  if (use.kind === 'computed import') return `import(${use.what}) cannot be checked: name the file`;
  if (use.what.startsWith('.')) {
    const target = new URL(use.what, `file:///${path}`).pathname.slice(1);
    if (target === 'package.json') return undefined;
    const [top, folder = ''] = target.split('/');
    if (top !== 'src') return `${use.what} is outside src/`;
    if (folder === own || allowed.includes('*') || allowed.includes(folder)) return undefined;
    if (use.kind === 'type import' && allowed.includes(`type ${folder}`)) return undefined;
    return `${own} must not import ${folder} (${use.what})`;
  }
  const library = packageOf(use.what);
  if (library === undefined) return isPure ? `${own} is pure and must not import ${use.what}` : undefined;
  const owners = rules.libraries[library] ?? rules.libraries[`${library.split('/')[0] ?? ''}/*`];
  return owners && !owners.includes(own) ? `${library} belongs in ${owners.join(', ')}, not in ${own}` : undefined;
}

/** `drizzle-orm/better-sqlite3` → `drizzle-orm`; undefined for what Node.js brings along. */
function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith('node:') || builtinModules.includes(specifier)) return undefined;
  const parts = specifier.split('/');
  return parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
}
