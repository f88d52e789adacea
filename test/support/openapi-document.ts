import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './tree.ts';

type Schema = Readonly<{ $ref?: string }>;
type Content = Readonly<Record<string, Readonly<{ schema: Schema }>>>;
type OperationObject = Readonly<{
  operationId: string;
  parameters?: readonly Readonly<{ name: string; in: string }>[];
  requestBody?: Readonly<{ content: Content }>;
  responses: Readonly<Record<string, Readonly<{ content?: Content }>>>;
}>;
type Document = Readonly<{ paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>> }>;

/** An operation of openapi/openapi.json, as far as clients have to do with it. */
export type DocumentedOperation = Readonly<{
  id: string;
  method: string;
  path: string;
  query: readonly string[];
  /** The component that the body is; undefined when there is none, or none of its own. */
  body: string | undefined;
  /** The components that successes in JSON are. */
  answers: readonly string[];
  /** Media types of successes. */
  types: readonly string[];
}>;

const componentOf = (schema: Schema | undefined): string | undefined => schema?.$ref?.split('/').at(-1);
const jsonOf = (content: Content | undefined) => componentOf(content?.['application/json']?.schema);

/** The API as it is committed, which a test holds against the routes. */
export function documentedOperations(): readonly DocumentedOperation[] {
  const { paths } = JSON.parse(readFileSync(join(root, 'openapi', 'openapi.json'), 'utf8')) as Document;
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, object]) => {
      const successes = Object.entries(object.responses).filter(([status]) => Number(status) < 300);
      const contents = successes.map(([, { content }]) => content);
      return {
        id: object.operationId,
        method: method.toUpperCase(),
        path,
        query: (object.parameters ?? []).filter((parameter) => parameter.in === 'query').map(({ name }) => name),
        body: jsonOf(object.requestBody?.content),
        answers: [...new Set(contents.map(jsonOf).filter((name) => name !== undefined))],
        types: [...new Set(contents.flatMap((content) => Object.keys(content ?? {})))],
      };
    }),
  );
}

/** The operation that a request is for: of several paths that fit, the one with the fewest parameters. */
export function operationFor(
  operations: readonly DocumentedOperation[],
  { method, path }: Readonly<{ method: string; path: string }>,
): DocumentedOperation | undefined {
  const parameters = (template: string) => template.split('{').length;
  return operations
    .filter((one) => one.method === method && fits(one.path, path))
    .toSorted((a, b) => parameters(a.path) - parameters(b.path))[0];
}

function fits(template: string, path: string): boolean {
  const [wanted, found] = [template.split('/'), path.split('/')];
  return wanted.length === found.length && wanted.every((part, at) => part.startsWith('{') || part === found[at]);
}
