import { operations } from './sys-operations.ts';

/** The far end of NamespaceProcess: runs one operation per message, in order of arrival. Ends with its parent. */
type Request = Readonly<{ id: number; name: string; args: never[] }>;
const byName = new Map<string, (...args: never[]) => unknown>(Object.entries(operations));

process.on('message', (message) => {
  const { id, name, args } = message as Request;
  new Promise((resolve) => resolve(byName.get(name)?.(...args))).then(
    (value) => process.send?.({ id, value }),
    (error: unknown) => process.send?.({ id, error: error instanceof Error ? error.message : String(error) }),
  );
});
process.on('disconnect', () => process.exit());
