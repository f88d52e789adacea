import fc from 'fast-check';

/**
 * For every property that says no other time: shrinking a long story of a failure is worth seconds, not minutes. A property
 * that held until then has held.
 */
const property_ms_max = 20_000;

// eslint-disable-next-line @typescript-eslint/no-deprecated -- a setting, unlike a global plugin, is replaced by a property that sets its own
fc.configureGlobal({ interruptAfterTimeLimit: property_ms_max });
