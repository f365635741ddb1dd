// Constants of the matcher as Python's `pack_matcher` packs them.

/** From what shared.js's `unpack` makes of the bytes. */
export function matcherData({ header, take }) {
  return { header };
}
