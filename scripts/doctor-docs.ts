/** Writes docs/doctor.md from the checks of the doctor. A test compares it with what is committed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { doctorMarkdown } from '../src/doctor/page.ts';

writeFileSync(join(import.meta.dirname, '..', 'docs/doctor.md'), doctorMarkdown());
console.log('wrote docs/doctor.md');
