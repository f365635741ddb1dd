// Frames that two photos share, an app's bars or a time stamp, as planes/frames.py: the same in the
// same places, while the middles differ. They say nothing of what the photos show.

import { DEPTH, UNIT } from "./products.js";

const SAME = 0.7; // least cosine of patches that are the same, where both are equally long
const LEAST_FRAME = 0.1; // of the patches around the middle, the share that makes a frame
const MIDDLE = 0.5; // of a photo's height and width
const STRUCTURE = 0.3; // square of a patch's length below which it is too flat to be part of a frame

/**
 * @typedef {import("./products.js").Patches} Patches
 * @typedef {{template: Patches, close: Patches}} Templates
 */

/**
 * The templates of a photo less a frame that it shares with another.
 * @param {Templates} source @param {Templates} other
 * @returns {Templates}
 */
export function withoutFrame(source, other) {
  if (!shareFrame(source.template, other.template)) return source;
  return { template: cutSame(source.template, other.template), close: cutSame(source.close, other.close) };
}

/**
 * Which patches of two photos are the same in the same place, and which have structure in either.
 * @param {Patches} one @param {Patches} other of the same grid
 */
function compare({ rows, columns, codes }, other) {
  return Array.from({ length: rows * columns }, (_, patch) => {
    let product = 0, first = 0, second = 0;
    for (let at = patch * DEPTH; at < (patch + 1) * DEPTH; at++) {
      product += codes[at] * other.codes[at];
      first += codes[at] ** 2;
      second += other.codes[at] ** 2;
    }
    const longer = Math.max(first, second) / UNIT ** 2;
    return { same: product / UNIT ** 2 > SAME * Math.max(longer, STRUCTURE), structured: longer > STRUCTURE };
  });
}

/** @param {Patches} one @param {Patches} other */
const sameGrid = (one, other) => one.rows === other.rows && one.columns === other.columns;

/** @param {Patches} one @param {Patches} other */
export function shareFrame(one, other) {
  if (!sameGrid(one, other)) return false;
  const { rows, columns } = one, found = compare(one, other);
  if (found.filter(({ same }) => same).length < (LEAST_FRAME / 2) * found.length) return false; // nearly always
  const isMiddle = (/** @type {number} */ at, /** @type {number} */ length) =>
    Math.abs((at + 0.5) / length - 0.5) < MIDDLE / 2;
  const [around, inside] = [false, true].map((wanted) => {
    const part = found.filter((_, patch) =>
      (isMiddle(Math.floor(patch / columns), rows) && isMiddle(patch % columns, columns)) === wanted);
    return part.filter(({ same }) => same).length / part.filter(({ structured }) => structured).length;
  });
  return around > LEAST_FRAME && inside < around / 2; // not if nothing is inside, NaN
}

/**
 * A template without the patches that are the same in the other photo's.
 * @param {Patches} one @param {Patches} other
 */
function cutSame(one, other) {
  if (!sameGrid(one, other)) return one;
  const codes = one.codes.slice();
  compare(one, other).forEach(({ same }, patch) => {
    if (same) codes.fill(0, patch * DEPTH, (patch + 1) * DEPTH);
  });
  return { ...one, codes };
}
