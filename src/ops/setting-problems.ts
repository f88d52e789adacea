import type { z } from 'zod';

const nouns: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
};

/** What is wrong with a value, in words that follow it: `, expected a number`, or `: …` where a refinement has its own. */
export function complaint(issue: z.core.$ZodIssue): string {
  return issue.code === 'custom' ? `: ${issue.message}` : `, expected ${expectation(issue)}`;
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return nouns[issue.expected] ?? issue.expected;
    case 'too_small':
      return bound(issue.origin, issue.inclusive === false ? 'more than' : 'at least', issue.minimum);
    case 'too_big':
      return bound(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum);
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    case 'invalid_value':
      return issue.values.length === 1 ? String(issue.values[0]) : `one of: ${issue.values.map(String).join(', ')}`;
    case 'invalid_format':
      return issue.format === 'regex'
        ? `text that matches ${issue.pattern ?? 'its pattern'}`
        : `valid ${formatName(issue.format)}`;
    case 'unrecognized_keys':
      return `no ${issue.keys.map((key) => `"${key}"`).join(', ')}`;
    case 'invalid_union':
      return (
        issue.errors
          .map(([first]) => (first ? expectation(first) : ''))
          .filter(Boolean)
          .join(', or ') || 'another value'
      );
    case 'invalid_key':
    case 'invalid_element':
    case 'custom':
      return issue.message;
  }
}

const formatNames: Readonly<Record<string, string>> = {
  url: 'URL',
  ipv4: 'IPv4 address',
  ipv6: 'IPv6 address',
  cidrv4: 'IPv4 prefix',
  cidrv6: 'IPv6 prefix',
};
const formatName = (format: string) => formatNames[format] ?? format;

function bound(origin: string, how: string, limit: number | bigint): string {
  if (origin === 'string') return `${how} ${limit} characters`;
  if (origin === 'array' || origin === 'set') return `${how} ${limit} items`;
  if (origin === 'object' || origin === 'map') return `${how} ${limit} entries`;
  return `a number of ${how} ${limit}`;
}
