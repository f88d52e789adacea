import { expect, it } from 'vitest';
import { createLogger, type LogLevel } from '../../src/ops/logger.ts';

function collect(level: LogLevel, write: (log: ReturnType<typeof createLogger>) => void): Record<string, unknown>[] {
  const lines: string[] = [];
  write(createLogger({ level, name: 'test' }, { write: (line) => lines.push(line) }));
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

it('writes one JSON line per message: level as a word, time as RFC 3339, and the name', () => {
  const [line] = collect('info', (log) => log.info({ pool: 'p1' }, 'granted'));
  expect(line).toMatchObject({ level: 'info', name: 'test', pool: 'p1', msg: 'granted' });
  expect(line?.['time']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
});

it('leaves out what is below its level', () => {
  const lines = collect('warn', (log) => {
    log.info('quiet');
    log.warn('loud');
  });
  expect(lines.map((line) => line['msg'])).toEqual(['loud']);
});

it.each([
  { token: 'hunter2' },
  { authorization: 'Bearer hunter2' },
  { headers: { authorization: 'Bearer hunter2' } },
  { req: { headers: { authorization: 'Bearer hunter2', cookie: 'hunter2' } } },
  { settings: { secret: 'hunter2', password: 'hunter2' } },
  { res: { body: { token: 'hunter2' } } },
])('hides secrets: %j', (record) => {
  const [line] = collect('info', (log) => log.info(record, 'message'));
  expect(JSON.stringify(line)).not.toContain('hunter2');
  expect(JSON.stringify(line)).toContain('(hidden)');
});

it('shows the path of a secret, which is none', () => {
  const [line] = collect('info', (log) => log.info({ token_file: 'operator.token' }, 'message'));
  expect(line).toMatchObject({ token_file: 'operator.token' });
});
