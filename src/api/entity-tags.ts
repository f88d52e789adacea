/**
 * Entity tags (RFC 9110, section 8.8.3). The ETag of a thing is its revision; where an answer also shows what the log does
 * not tell (that an agent lives, how many slices are in use), a digest of the answer follows, so that no two answers that
 * differ have the same tag. Changes go by the revision alone.
 */

/** `"42"`, or `"42-9fX3kQ2a"`. */
export const entityTag = (revision: number, digest?: string): string =>
  digest === undefined ? `"${revision}"` : `"${revision}-${digest}"`;

export const ownTagPattern = '"[0-9]{1,15}(?:-[A-Za-z0-9_-]{8})?"';
const own = new RegExp(`^${ownTagPattern}$`);

/** The revision that one of our tags names; undefined for weak ones, which are too weak for a change, and for others'. */
export const revisionIn = (tag: string): number | undefined => (own.test(tag) ? parseInt(tag.slice(1), 10) : undefined);

/** The tags of `If-Match` or `If-None-Match`; `*`; undefined where it is no list of tags. */
export function entityTagsIn(text: string): readonly string[] | '*' | undefined {
  if (text.trim() === '*') return '*';
  const tags: string[] = [];
  let end = 0;
  for (const { 0: whole, 1: tag, index } of text.matchAll(
    /[ \t]*((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)/gy,
  )) {
    if (tag !== undefined) tags.push(tag);
    end = index + whole.length;
  }
  return tags.length > 0 && end === text.length && !text.endsWith(',') ? tags : undefined;
}

/** Whether an answer with this tag is one that the client has, by its `If-None-Match`: compared weakly. */
export function isKnown(text: string | undefined, etag: string): boolean {
  const tags = text === undefined ? undefined : entityTagsIn(text);
  return tags === '*' || (tags?.some((tag) => tag.replace(/^W\//, '') === etag) ?? false);
}
