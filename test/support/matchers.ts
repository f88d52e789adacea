import { expect } from 'vitest';

/** vitest's own is typed `any`, which would spread into every object that it stands in. */
export const containing = (text: string): unknown => expect.stringContaining(text);
