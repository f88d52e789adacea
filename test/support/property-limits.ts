import fc from 'fast-check';

/**
 * For every property that says no other time: shrinking a long story of a failure is worth seconds, not minutes. A property
 * that held until then has held.
 */
const property_ms_max = 20_000;

fc.configureGlobal({ interruptAfterTimeLimit: property_ms_max });
