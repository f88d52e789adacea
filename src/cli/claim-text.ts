import { err, ok, type Result } from '../net/result.ts';

type Part = string | number | boolean;

/**
 * `protocol=tcp,ports=128,mode=shared`: what one `--claim` says, by the names of the API. A value with commas or equals
 * signs of its own stands in braces: `select={country=de,tier in (a,b)}`.
 */
export function claimParts(text: string, keys: readonly string[]): Result<Readonly<Record<string, Part>>, string> {
  const given: Record<string, Part> = {};
  for (const part of text.split(commas)) {
    const [, key = '', braced, plain = ''] = /^([^=]+)=(?:\{([^{}]*)\}|([^={}]*))$/.exec(part) ?? [];
    if (key in given || !keys.includes(key))
      return err(`expected parts like ports=128, of ${keys.join(', ')}, each once; got "${part}"`);
    given[key] = braced ?? valueOf(key, plain);
  }
  return ok(given);
}

/** Not those within braces. */
const commas = /,(?![^{]*\})/;

const numbers: ReadonlySet<string> = new Set(['ports', 'family', 'count']);

function valueOf(key: string, text: string): Part {
  if (numbers.has(key) && /^\d+$/.test(text)) return Number(text);
  return key === 'sticky' && (text === 'true' || text === 'false') ? text === 'true' : text;
}
