import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { access } from '../../src/api/access.ts';
import { errorsMarkdown } from '../../src/api/error-pages.ts';
import { errorCodes, errorKinds } from '../../src/api/errors.ts';
import { errorsOf, openApiText } from '../../src/api/openapi.ts';
import { tags } from '../../src/api/operation.ts';
import { ApiWorld } from '../support/api-world.ts';
import { root } from '../support/tree.ts';

type OperationObject = Readonly<{
  operationId: string;
  summary: string;
  tags: string[];
  security: object[];
  'x-roles': string[];
  parameters?: { name: string; in: string; required: boolean; description?: string }[];
  requestBody?: { content: Record<string, { example?: unknown }> };
  responses: Record<string, { description: string; content?: Record<string, { examples?: Record<string, unknown> }> }>;
}>;

type Document = Readonly<{
  openapi: string;
  paths: Record<string, Record<string, OperationObject>>;
  components: Record<string, Record<string, unknown>>;
}>;

let world: ApiWorld;
let document: Document;
let operations: { path: string; method: string; object: OperationObject }[];

beforeAll(async () => {
  world = await ApiWorld.open();
  document = JSON.parse((await world.call('GET', '/openapi.json', { token: null })).text) as Document;
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, object]) => ({ path, method, object })),
  );
});
afterAll(async () => world[Symbol.asyncDispose]());

const readText = (path: string) => readFileSync(join(root, path), 'utf8');
const regenerate = 'run `npm run openapi` and commit what it changes';

describe('the committed documents', () => {
  it('openapi/openapi.json is what the routes generate', () => {
    expect(readText('openapi/openapi.json') === openApiText(document), regenerate).toBe(true);
  });

  it('docs/errors.md is what the catalogue generates', () => {
    expect(readText('docs/errors.md'), regenerate).toBe(errorsMarkdown());
  });
});

describe('the OpenAPI document', () => {
  it('is version 3.1 and has every operation of the access table once', () => {
    expect(document.openapi).toMatch(/^3\.1\./);
    const ids = operations.map(({ object }) => object.operationId);
    expect(ids.toSorted()).toEqual(Object.keys(access).toSorted());
  });

  it('says of every operation what it does, under which tag, and who may', () => {
    for (const { object } of operations) {
      const roles = access[object.operationId as keyof typeof access];
      expect(object.summary.length, object.operationId).toBeGreaterThan(10);
      expect(Object.keys(tags)).toContain(object.tags[0]);
      expect(object['x-roles'], object.operationId).toEqual(roles === 'open' ? [] : roles);
      expect(object.security, object.operationId).toEqual(roles === 'open' ? [] : [{ bearer: [] }]);
    }
  });

  it('declares every placeholder of a path as a required parameter', () => {
    for (const { path, object } of operations) {
      const placeholders = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const declared = (object.parameters ?? []).filter((p) => p.in === 'path' && p.required).map((p) => p.name);
      expect(declared, path).toEqual(placeholders);
    }
  });

  it('has one component per schema, each of them used, and every reference leads somewhere', () => {
    const text = JSON.stringify(document);
    const references = new Set(
      [...text.matchAll(/"\$ref":"#\/components\/(\w+)\/(\w+)"/g)].map((m) => `${m[1]}/${m[2]}`),
    );
    expect(text.match(/"\$ref":"(?!#\/components\/)/)).toBeNull();
    const { components } = document;
    for (const reference of references) {
      const [kind = '', name = ''] = reference.split('/');
      expect(components[kind], reference).toHaveProperty(name);
    }
    for (const name of Object.keys(components['schemas'] ?? {})) expect(references, name).toContain(`schemas/${name}`);
    expect(Object.keys(components['schemas'] ?? {}).filter((name) => /(?:Input|Output|\d)$/.test(name))).toEqual([]);
  });

  it('leaves out what zod needs and a reader does not', () => {
    expect(JSON.stringify(document)).not.toContain(String(Number.MAX_SAFE_INTEGER));
    expect(JSON.stringify(document)).not.toContain('$defs');
  });

  it('tells the default of a query parameter', () => {
    const list = operations.find(({ object }) => object.operationId === 'listLeases');
    const limit = list?.object.parameters?.find(({ name }) => name === 'limit');
    expect(limit).toMatchObject({ required: false, schema: { type: 'integer', default: 100, maximum: 1_000 } });
  });
});

describe('the examples', () => {
  it('of bodies are accepted by the schemas that check requests', () => {
    const bodies = world.app.operations.filter(({ body }) => body !== undefined);
    expect(bodies.length).toBeGreaterThan(10);
    for (const { operation, body } of bodies) {
      expect(operation.examples.body, `${operation.id} has no example`).toBeDefined();
      const parsed = body?.safeParse(operation.examples.body);
      expect(parsed?.error && z.prettifyError(parsed.error), operation.id).toBeUndefined();
    }
  });

  it('of answers are what the schemas describe, and every success has one', () => {
    for (const { operation, answers } of world.app.operations) {
      expect(Object.keys(answers).toSorted(), operation.id).toEqual(Object.keys(operation.answers).toSorted());
      for (const [status, schema] of Object.entries(answers)) {
        if (schema instanceof z.ZodVoid || operation.id === 'getOpenApi') continue;
        const example = operation.examples.answers[Number(status)];
        expect(example, `${operation.id} ${status} has no example`).toBeDefined();
        const parsed = schema.safeParse(example);
        expect(parsed.error && z.prettifyError(parsed.error), `${operation.id} ${status}`).toBeUndefined();
      }
    }
  });
});

describe('the error responses', () => {
  it('list every code that an operation can be refused with, under its status', () => {
    for (const route of world.app.operations) {
      const found = operations.find(({ object }) => object.operationId === route.operation.id);
      const documented = Object.entries(found?.object.responses ?? {}).flatMap(([status, response]) =>
        Object.keys(response.content?.['application/problem+json']?.examples ?? {}).map((code) => [
          Number(status),
          code,
        ]),
      );
      const expected = errorsOf(route).map((code) => [errorKinds[code].status, code]);
      expect(documented.toSorted(), route.operation.id).toEqual(expected.toSorted());
    }
  });

  it('of every operation with a token include 401 and 403, and of every one with a body 400, 413 and 415', () => {
    for (const { object } of operations) {
      const statuses = Object.keys(object.responses);
      if (object.security.length > 0)
        expect(statuses, object.operationId).toEqual(expect.arrayContaining(['401', '403']));
      if (object.requestBody !== undefined)
        expect(statuses, object.operationId).toEqual(expect.arrayContaining(['400', '413', '415']));
    }
  });
});

describe('the catalogue of errors', () => {
  it('gives every code a status, a title, a cause and a remedy, each a sentence of its own', () => {
    for (const code of errorCodes) {
      const { status, title, cause, remedy } = errorKinds[code];
      expect(code).toMatch(/^[a-z]+(?:_[a-z]+)*$/);
      expect(status, code).toBeGreaterThanOrEqual(400);
      expect(title, code).not.toMatch(/\.$/);
      for (const text of [cause, remedy]) expect(text, code).toMatch(/[.)`]$/);
    }
    expect(new Set(errorCodes.map((code) => errorKinds[code].title)).size).toBe(errorCodes.length);
  });

  it('is a page on which every `type` of a problem can be looked up', async () => {
    const page = await world.call('GET', '/docs/errors', { token: null });
    expect(page.status).toBe(200);
    for (const code of errorCodes) expect(page.text).toContain(`<section id="${code}">`);
  });
});
