import type { Scope } from './commands.ts';
import type { LeaseError } from './errors.ts';
import { holderKey, isRunByAgent, type Holder } from './model.ts';
import type { Need } from './needs.ts';
import type { View } from './view.ts';

type Owner = Readonly<{ machine: string; holder: string }>;

/** Only a scope that is limited by kind has to see the holder. */
export const scopeNeeds = (scope: Scope, owner: Owner): readonly Need[] =>
  scope.runByAgent === undefined ? [] : [{ need: 'holder', machine: owner.machine, name: owner.holder }];

const isAgents = (holder: Holder | undefined): boolean => holder !== undefined && isRunByAgent(holder.kind);

/** Why `item`, which belongs to `owner`, is out of this scope's reach; undefined when it is within. */
export function outOfScope(view: View, scope: Scope, owner: Owner, item: string): LeaseError | undefined {
  const isOther =
    (scope.machine !== undefined && scope.machine !== owner.machine) ||
    (scope.holder !== undefined && scope.holder !== owner.holder) ||
    (scope.runByAgent === true && !isAgents(view.holders.get(holderKey(owner.machine, owner.holder))));
  return isOther ? { code: 'not_yours', item } : undefined;
}
