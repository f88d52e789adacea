import { describe, expect, it } from 'vitest';
import { entityTag, entityTagsIn, isKnown, revisionIn } from '../../src/api/entity-tags.ts';

describe('entity tags', () => {
  it('begin with the revision', () => {
    expect([entityTag(42), entityTag(42, 'abcd_-19')]).toEqual(['"42"', '"42-abcd_-19"']);
    expect([revisionIn('"42"'), revisionIn('"42-abcd_-19"')]).toEqual([42, 42]);
    for (const other of ['42', 'W/"42"', '"42-short"', '"x42"', '""', '"1234567890123456"'])
      expect([other, revisionIn(other)]).toEqual([other, undefined]);
  });

  it.each([
    ['*', '*'],
    [' * ', '*'],
    ['"1"', ['"1"']],
    ['"1",W/"2" ,\t"a,b"', ['"1"', 'W/"2"', '"a,b"']],
    ['""', ['""']],
    ['', undefined],
    ['1', undefined],
    ['"1', undefined],
    ['"1" "2"', undefined],
    ['"1",', undefined],
    [',"1"', undefined],
    ['"1", *', undefined],
    ['w/"1"', undefined],
    ['"1",'.repeat(4_000), undefined],
  ])('are read from %j', (text, tags) => {
    expect(entityTagsIn(text)).toEqual(tags);
  });

  it('are known weakly', () => {
    const known = ['"1"', 'W/"1"', '"0", W/"1"', '*'];
    const unknown = [undefined, '"2"', '"1', 'W/"11"', ''];
    expect(known.map((text) => isKnown(text, '"1"'))).toEqual(known.map(() => true));
    expect(unknown.map((text) => isKnown(text, '"1"'))).toEqual(unknown.map(() => false));
  });
});
