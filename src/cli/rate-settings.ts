import { z } from 'zod';

const perS = z.int().min(1).max(1_000_000).optional();

/** How much may be asked of the server, and by whom. */
export const rateSettings = {
  token_requests_per_s: perS.meta({
    description: 'Requests a second of each token that has no limit of its own; without it there is none',
  }),
  token_requests_burst: perS.meta({ description: 'How many of these may come at once; default twice as many' }),
  stranger_requests_per_s: z.int().min(0).max(1_000_000).default(20).meta({
    description: 'Requests a second without a valid token, from one address; 0: no limit',
  }),
};

type RateSettings = Readonly<{
  token_requests_per_s?: number | undefined;
  token_requests_burst?: number | undefined;
  stranger_requests_per_s: number;
}>;

/** Strangers get a burst in which a page of the documentation finds room with all that belongs to it. */
const stranger_seconds_at_once = 10;

export const ratesOf = (settings: RateSettings) => ({
  token_requests_per_s: settings.token_requests_per_s ?? null,
  token_requests_burst: settings.token_requests_burst ?? null,
  stranger_requests_per_s: settings.stranger_requests_per_s || null,
  stranger_requests_burst: settings.stranger_requests_per_s * stranger_seconds_at_once || null,
});
