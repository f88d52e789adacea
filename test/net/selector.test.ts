import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatSelector, matches, parseSelector, selectorBounds, type Selector } from '../../src/net/selector.ts';
import { plainText } from '../../src/net/text.ts';

const selector = (text: string): Selector => {
  const result = parseSelector(text);
  if (!result.ok) throw new Error(result.error);
  return result.value;
};

describe('a selector', () => {
  it.each([
    ['country=de', [{ key: 'country', operator: 'in', values: ['de'] }]],
    ['country==de', [{ key: 'country', operator: 'in', values: ['de'] }]],
    ['site!=x', [{ key: 'site', operator: 'notin', values: ['x'] }]],
    [' site  in ( a , b,a ) ', [{ key: 'site', operator: 'in', values: ['a', 'b'] }]],
    ['site notin(a)', [{ key: 'site', operator: 'notin', values: ['a'] }]],
    ['tier', [{ key: 'tier', operator: 'exists', values: [] }]],
    ['! legacy', [{ key: 'legacy', operator: 'missing', values: [] }]],
    ['in in (in)', [{ key: 'in', operator: 'in', values: ['in'] }]],
    ['note="two words, \\"quoted\\" \\\\"', [{ key: 'note', operator: 'in', values: ['two words, "quoted" \\'] }]],
    ['note=', [{ key: 'note', operator: 'in', values: [''] }]],
    [
      'a=1,!b,c',
      [
        { key: 'a', operator: 'in', values: ['1'] },
        { key: 'b', operator: 'missing', values: [] },
        { key: 'c', operator: 'exists', values: [] },
      ],
    ],
  ])('is read from %j', (text, wanted) => {
    expect(parseSelector(text)).toEqual({ ok: true, value: wanted });
  });

  it.each([
    ['', 'expected the name of a label at character 1, found the end'],
    ['  ', 'expected the name of a label at character 3, found the end'],
    ['a,', 'expected the name of a label at character 3, found the end'],
    ['=a', 'expected the name of a label at character 1, found "=a"'],
    ['Country=de', '"Country" is not the name of a label'],
    ['a b', 'expected a comma or the end at character 3, found "b"'],
    ['a inner (b)', 'expected a comma or the end at character 3, found "inner (b)"'],
    ['a in b', 'expected an opening parenthesis at character 6, found "b"'],
    ['a in (b', 'expected a comma or a closing parenthesis at character 8, found the end'],
    ['a="b', 'expected a closing quote at character 5, found the end'],
    ['a=b=c', 'expected a comma or the end at character 4, found "=c"'],
    [`a=${'x'.repeat(64)}`, 'the value of a label has at most 63 characters'],
    ['a'.repeat(1_025), 'a selector has at most 1024 characters'],
    [Array(33).fill('a').join(','), 'a selector has at most 32 conditions'],
    [`a in (${Array.from({ length: 65 }, (_, i) => i).join(',')})`, 'a condition has at most 64 values'],
  ])('is refused with the place: %j', (text, error) => {
    expect(parseSelector(text)).toEqual({ ok: false, error });
  });

  it.each([
    ['country=de,site!=x', { country: 'de' }, true],
    ['country=de,site!=x', { country: 'de', site: 'x' }, false],
    ['country=de', {}, false],
    ['site notin (x,y)', { site: 'y' }, false],
    ['site notin (x,y)', {}, true],
    ['tier', { tier: '' }, true],
    ['tier=', { tier: '' }, true],
    ['!tier', { tier: '' }, false],
    // Labels are looked up among the thing's own, not among what every object has.
    ['constructor', {}, false],
    ['!constructor', {}, true],
  ])('%j with %j: %j', (text, labels, isMeant) => {
    expect(matches(selector(text), labels)).toBe(isMeant);
  });

  it('is written in one way, which reads back as the same', () => {
    const key = fc.stringMatching(/^[a-z0-9](?:[a-z0-9._/-]{0,8}[a-z0-9])?$/);
    const value = fc.string({ unit: 'binary', maxLength: 12 }).filter((text) => plainText.test(text));
    const values = fc.uniqueArray(value, { minLength: 1, maxLength: 4 });
    const requirement = fc.oneof(
      fc.record({ key, operator: fc.constantFrom('in' as const, 'notin' as const), values }),
      fc.record({ key, operator: fc.constantFrom('exists' as const, 'missing' as const), values: fc.constant([]) }),
    );
    const shortEnough = (written: Selector) => formatSelector(written).length <= selectorBounds.characters_max;
    fc.assert(
      fc.property(fc.array(requirement, { minLength: 1, maxLength: 4 }).filter(shortEnough), (written) => {
        expect(selector(formatSelector(written))).toEqual(written);
      }),
    );
  });

  it('never fails on any text but by saying so', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'b', '=', '!', ',', '(', ')', '"', ' ', '\\', ' in ', ' notin ') }),
        (text) => {
          const result = parseSelector(text);
          if (!result.ok) expect(result.error).not.toBe('');
        },
      ),
    );
  });
});
