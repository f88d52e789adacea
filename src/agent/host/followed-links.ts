import { anyMss, mssThrough, type MssMax } from '../../fish/packet/mss-clamp.ts';
import type { FishPlace } from '../fish/fish-place.ts';
import type { FishSettings } from '../settings/settings.ts';

/** What the setting `mss_clamp` comes to, as the links are. */
export class FollowedLinks {
  readonly #setting: FishSettings['mss_clamp'];
  readonly #place: Pick<FishPlace, 'narrowestMtu'>;
  #mtu: number | undefined;

  /** Throws SysError. */
  constructor(setting: FishSettings['mss_clamp'], place: Pick<FishPlace, 'narrowestMtu'>) {
    this.#setting = setting;
    this.#place = place;
    if (setting === 'mtu') this.#mtu = place.narrowestMtu();
  }

  get mss(): MssMax {
    if (typeof this.#setting === 'number') return { mssMax: this.#setting, mssMax6: this.#setting };
    return this.#mtu === undefined ? { mssMax: anyMss, mssMax6: anyMss } : mssThrough(this.#mtu);
  }

  /** Looks again, and tells `clamp` if it comes to something else by now. Throws SysError, or what `clamp` throws. */
  async follow(clamp: (max: MssMax) => Promise<unknown>): Promise<void> {
    if (this.#setting !== 'mtu') return;
    const mtu = this.#place.narrowestMtu();
    if (mtu === this.#mtu) return;
    const before = this.#mtu;
    this.#mtu = mtu;
    try {
      await clamp(this.mss);
    } catch (error) {
      this.#mtu = before;
      throw error;
    }
  }
}
