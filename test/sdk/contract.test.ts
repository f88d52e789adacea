import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { clientMethods } from '../support/client-methods.ts';
import { documentedOperations, operationFor, type DocumentedOperation } from '../support/openapi-document.ts';
import { filesUnder, root } from '../support/tree.ts';

const operations = documentedOperations();
const methods = (await clientMethods()).map((method) => ({ ...method, operation: operationFor(operations, method) }));

/** What is documented as a body or a query parameter, and reaches the server by other ways than an argument of that form. */
const otherwise: Readonly<Record<string, string>> = {
  'releaseLease body': 'the lease itself is handed over, and its token becomes the body',
  'grantLeases timeout_s': 'an option like the time limits of other calls: timeoutS',
  'getRoutes format': 'a method for each format',
  'watchMachine from': 'the first argument after the machine: a number alone',
  'watchRoutes from': 'the first argument: a number alone',
  'watchEvents after': 'the second argument: a number alone',
};

describe('the client and the OpenAPI document', () => {
  it('have the same operations: a method for each, and none beside', () => {
    expect(methods.filter(({ operation }) => operation === undefined)).toEqual([]);
    const called = new Set(methods.map(({ operation }) => operation?.id));
    expect(operations.map(({ id }) => id).filter((id) => !called.has(id))).toEqual([]);
  });

  it('have the same types: of bodies, of answers, of what a query may say', async () => {
    const claims = await typeClaims();
    expect(claims.length).toBeGreaterThan(100);
    expect(falseClaims(claims)).toEqual([]);
  });

  it('would differ visibly if a type were another', async () => {
    const broken = (await typeClaims()).map((claim) =>
      claim.name === 'createPool: its answer is Pool'
        ? { ...claim, type: claim.type.replace('.Pool>', '.Machine>') }
        : claim,
    );
    expect(falseClaims(broken)).toEqual(['createPool: its answer is Pool']);
  });
});

/** Something about types that must be true: a type that is `true` then. */
type Claim = Readonly<{ name: string; type: string }>;

async function typeClaims(): Promise<readonly Claim[]> {
  const schemas = await schemasByComponent();
  return methods.flatMap(({ name, operation }) => {
    if (operation === undefined) return [];
    const method = `FisheryClient${name
      .split('.')
      .map((part) => `['${part}']`)
      .join('')}`;
    return claimsAbout(operation, method, schemas, name);
  });
}

function claimsAbout(
  { id, body, answers, types, query }: DocumentedOperation,
  method: string,
  schemas: ReadonlyMap<string, string>,
  name: string,
): readonly Claim[] {
  const isText = !types.includes('application/json') || /\.(?:csv|nft)$/.test(name);
  const schemaOf = (component: string) => schemas.get(component) ?? `missing_${component}`;
  const about = [
    ...(isText
      ? []
      : answers.map((answer) => ({
          name: `${id}: its answer is ${answer}`,
          type: `Same<Answer<${method}>, z.output<typeof ${schemaOf(answer)}>>`,
        }))),
    ...(body === undefined || `${id} body` in otherwise
      ? []
      : [
          {
            name: `${id}: its body is ${body}`,
            type: `Takes<Parameters<${method}>, z.input<typeof ${schemaOf(body)}>>`,
          },
        ]),
    ...query
      .filter((parameter) => !(`${id} ${parameter}` in otherwise))
      .map((parameter) => ({
        name: `${id}: it may say ${parameter}`,
        // What the client calls otherwise, it does so everywhere.
        type: `Names<Parameters<${method}>, '${parameter === 'dry_run' ? 'dryRun' : parameter}'>`,
      })),
  ];
  return about;
}

/** `wire0.Pool` for the component Pool: where the schema of each component is exported, by its id. */
async function schemasByComponent(): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const [index, file] of wireFiles.entries()) {
    const module = (await import(join(root, file))) as Readonly<Record<string, unknown>>;
    for (const [name, value] of Object.entries(module))
      if (value instanceof z.ZodType) {
        const id = value.meta()?.id;
        if (id !== undefined) found.set(id, `wire${index}.${name}`);
      }
  }
  return found;
}
const wireFiles = filesUnder('src/wire').filter((path) => path.endsWith('.ts'));

/** The claims that do not hold, as the compiler judges them: a file that exists nowhere, beside this one. */
function falseClaims(claims: readonly Claim[]): readonly string[] {
  const path = join(root, 'test', 'sdk', 'contract-claims.ts');
  const lines = [
    `import type { z } from 'zod';`,
    `import type { FisheryClient } from '../../src/sdk/index.ts';`,
    ...wireFiles.map((file, index) => `import type * as wire${index} from '../../${file}';`),
    // In both directions: then neither has, lacks or allows anything that the other does not.
    `type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;`,
    `type Answer<F> = F extends (...args: never[]) => Promise<infer A> ? A : never;`,
    `type Takes<P extends readonly unknown[], B> = true extends { [K in keyof P]: Same<NonNullable<P[K]>, B> }[number] ? true : false;`,
    `type Keys<T> = T extends object ? keyof T : never;`,
    `type Names<P extends readonly unknown[], N> = N extends Keys<NonNullable<P[number]>> ? true : false;`,
    `export type Claims = [`,
  ];
  const text = `${[...lines, ...claims.map(({ type }) => `  True<${type}>,`)].join('\n')}\n];\ntype True<T extends true> = T;\n`;
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (file) => ts.sys.readFile(file)) as {
    config: object;
  };
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  // Whether all of the imports are needed is no question here.
  options.noUnusedLocals = false;
  const host = ts.createCompilerHost(options);
  const withClaims: ts.CompilerHost = {
    ...host,
    fileExists: (file) => file === path || host.fileExists(file),
    readFile: (file) => (file === path ? text : host.readFile(file)),
    getSourceFile: (file, ...more) =>
      file === path ? ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true) : host.getSourceFile(file, ...more),
  };
  const program = ts.createProgram([path], options, withClaims);
  const source = program.getSourceFile(path);
  return program.getSemanticDiagnostics(source).map(({ start = 0, messageText }) => {
    const line = source?.getLineAndCharacterOfPosition(start).line ?? 0;
    return claims[line - lines.length]?.name ?? ts.flattenDiagnosticMessageText(messageText, '\n');
  });
}
