import { z } from 'zod';
import type { Entry } from './command.ts';
import { connectionSettings } from './connection.ts';

/**
 * The JSON Schema (draft 2020-12) of the configuration file: a section for each command that has settings of its own, and
 * the profiles that verbs share. Editors check and complete by it; the program itself checks by the zod schemas that it
 * is made of, and knows more (which settings go together).
 */
export async function configSchema(entries: readonly Entry[]): Promise<object> {
  const sections: Record<string, object> = {};
  for (const entry of entries) {
    if (!('load' in entry) || entry.isHidden) continue;
    const command = await entry.load();
    if (command.profiled || command.section !== undefined || Object.keys(command.settings.shape).length === 0) continue;
    sections[entry.name] = { ...jsonSchema(command.settings), description: `${entry.summary}.` };
  }
  const profile = jsonSchema(connectionSettings);
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Configuration of Fishery',
    type: 'object',
    additionalProperties: false,
    properties: {
      ...sections,
      profile: { type: 'string', description: 'The profile that is meant when nobody names one.' },
      profiles: {
        type: 'object',
        description: 'Settings for talking to one of several servers.',
        additionalProperties: profile,
      },
    },
  };
}

/** As it is written in a file: what has a default may be left out. Definitions stay in their section. */
function jsonSchema(schema: z.ZodObject): object {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    reused: 'inline',
  });
  return inlined(rest, (rest as { $defs?: Record<string, object> }).$defs ?? {});
}

/** References are relative to the whole document, so each is replaced by what it stands for; none refers to itself. */
function inlined(value: unknown, definitions: Readonly<Record<string, object>>): object {
  const walk = (part: unknown): unknown => {
    if (Array.isArray(part)) return part.map(walk);
    if (typeof part !== 'object' || part === null) return part;
    const { $ref, $defs: _defs, ...rest } = part as Readonly<Record<string, unknown>>;
    const own = Object.fromEntries(Object.entries(rest).map(([key, each]) => [key, walk(each)]));
    const target = typeof $ref === 'string' ? definitions[$ref.replace('#/$defs/', '')] : undefined;
    return target === undefined ? own : { ...(walk(target) as object), ...own };
  };
  return walk(value) as object;
}
