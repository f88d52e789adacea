import { errorCodes, errorKinds, type ErrorCode } from './errors.ts';

const intro =
  'Every failure is a problem document (RFC 9457, `application/problem+json`). Programs branch on `code`, which is ' +
  'stable and never reused, not on the texts. `errors`, when present, lists every wrong part of the input; `request_id` ' +
  'finds the request in the log of the server.';

const retryLine = (code: ErrorCode): string =>
  errorKinds[code].passing
    ? 'The same request may succeed later; wait for `retry_after_s` when it is given.'
    : 'The same request will fail again until something is changed.';

/** docs/errors.md: the catalogue for people who read the repository. A test compares it. */
export const errorsMarkdown = (): string =>
  [
    '# Errors',
    '',
    '<!-- Generated from src/api/errors.ts by `npm run openapi`. -->',
    '',
    intro,
    '',
    ...errorCodes.map((code) => `- ${errorKinds[code].status} [${code}](#${code}): ${errorKinds[code].title}`),
    '',
    ...errorCodes.flatMap((code) => {
      const { status, title, cause, remedy } = errorKinds[code];
      return [
        `## ${code}`,
        '',
        `${status} · ${title}`,
        '',
        `**Cause.** ${cause}`,
        '',
        `**Remedy.** ${remedy}`,
        '',
        retryLine(code),
        '',
      ];
    }),
  ].join('\n');

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
/** Catalogue text as HTML: escaped, with `code` marked up. */
const html = (text: string): string =>
  text
    .replace(/[&<>"]/g, (character) => entities[character] ?? character)
    .replace(/`([^`]+)`/g, '<code>$1</code>')
    .replace(/\*\*([^*]+)\*\*/g, '<b>$1</b>');

/** The page that the `type` of every problem points into. It needs nothing but itself. */
export const errorsHtml = (): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fishery: errors</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1b2733; }
h2 { font: 600 1.1rem ui-monospace, monospace; margin: 2rem 0 0; }
section:target { background: #fff7d6; outline: .5rem solid #fff7d6; }
code { font-family: ui-monospace, monospace; font-size: .92em; }
.status { color: #5a6b7b; margin: 0; }
</style>
</head>
<body>
<h1>Errors</h1>
<p>${html(intro)} The operations are described <a href="/docs">here</a>.</p>
${errorCodes
  .map((code) => {
    const { status, title, cause, remedy } = errorKinds[code];
    return `<section id="${code}">
<h2>${code}</h2>
<p class="status">${status} · ${html(title)}</p>
<p><b>Cause.</b> ${html(cause)}</p>
<p><b>Remedy.</b> ${html(remedy)}</p>
<p>${html(retryLine(code))}</p>
</section>`;
  })
  .join('\n')}
</body>
</html>
`;
