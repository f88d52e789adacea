import type { Logger } from '../../ops/logger.ts';
import { desiredHost, type HostSettings } from '../host/desired-host.ts';
import type { Host } from '../host/host.ts';
import { leftOnHost } from '../placeholders/left-on-host.ts';
import { hostAddressesInPools } from '../status/standing-problems.ts';
import type { StateFile } from '../host/state-file.ts';

export type FirstGuardParts = Readonly<{
  host: Pick<Host, 'observe' | 'carryOut'>;
  stateFile: Pick<StateFile, 'isBegun' | 'recorded' | 'record' | 'sliced' | 'prefixes'>;
  settings: HostSettings;
  log: Pick<Logger, 'warn'>;
}>;

/**
 * The guard of a host that had one and has none: after a boot, or after somebody flushed the ruleset while no agent ran. It stands,
 * shut, by the pools' prefixes that the server told of last, before anybody is asked; addresses of the pools may be on the host by
 * its own configuration. What is remembered decides here only what is refused, so it may be of any boot.
 */
export class FirstGuard {
  readonly #parts: FirstGuardParts;
  /** The one that this loaded; a table with another is somebody's who knows more. */
  #text: string | undefined;

  constructor(parts: FirstGuardParts) {
    this.#parts = parts;
  }

  /** Loads it where it is missing, or is not any more as it was loaded here; returns whether it did. */
  async hold(): Promise<boolean> {
    const { host, stateFile, settings, log } = this.#parts;
    const { prefixes, sliced } = stateFile;
    if (prefixes.length === 0) return false;
    const observed = await host.observe('changed');
    const { is } = observed.ruleset;
    if (is !== 'absent' && this.#text === undefined) return false;
    const hostAddresses = hostAddressesInPools(observed, { prefixes, sliced });
    const { othersTranslate } = observed;
    const load = {
      families: observed.families.host,
      prefixes,
      addresses: [],
      hostAddresses,
      othersTranslate,
      classes: [],
      elements: new Map(),
    };
    const { ruleset } = desiredHost(settings, load, stateFile.recorded);
    if (ruleset === null || (observed.ruleset.is === 'loaded' && observed.ruleset.text === ruleset.text)) return false;
    // Nothing is changed before there is a record.
    if (!stateFile.isBegun) stateFile.record(leftOnHost(observed, settings, [...sliced]));
    await host.carryOut([{ do: 'load-ruleset', ruleset }]);
    this.#text = ruleset.text;
    log.warn(
      { prefixes },
      'there was no guard on this host: it stands now, shut, by the pools that the server told of last',
    );
    return true;
  }
}
