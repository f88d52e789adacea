/**
 * Text that people and programs write freely: no control characters, and no half of a surrogate pair. Those are what the
 * databases, JSON and UTF-8 do not keep alike, so that what is stored would not be what was said. With the flag `u` a half
 * stands for itself, and a whole pair for its character.
 */
export const plainText = /^[^\p{Cc}\p{Cs}]*$/u;

/** As plain text of so many UTF-16 units at most, for what others say: what is not plain is replaced by U+FFFD. */
export const toPlainText = (text: string, units_max: number): string =>
  text.slice(0, units_max).replaceAll(/[\p{Cc}\p{Cs}]/gu, '\ufffd');
