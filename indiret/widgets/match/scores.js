// What a pair's votes are worth, for the page that ranks and for the workers that judge.

const UPRIGHT_WEIGHT = 2; // of an upright pair beside a turned one, which is not tried here

/** @typedef {import("./matching.js").Match} Match */

/**
 * What the votes of both directions are worth beside those of other things.
 * @param {number} background of the target @param {Match} forward @param {Match} [backward]
 */
export function pairScore(background, forward, backward) {
  return ((forward.score + (backward?.score ?? 0)) * UPRIGHT_WEIGHT) / Math.sqrt(background);
}
