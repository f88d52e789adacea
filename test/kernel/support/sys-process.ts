import { operations } from './sys-operations.ts';

/** The far end of NamespaceProcess: runs one operation per message, in order of arrival. Ends with its parent. */
type Request = Readonly<{ id: number; name: keyof typeof operations; args: never[] }>;

process.on('message', (message) => {
  const { id, name, args } = message as Request;
  const operation: (...args: never[]) => unknown = operations[name];
  new Promise((resolve) => resolve(operation(...args))).then(
    (value) => process.send?.({ id, value }),
    (error: unknown) => process.send?.({ id, error: error instanceof Error ? error.message : String(error) }),
  );
});
process.on('disconnect', () => process.exit());
