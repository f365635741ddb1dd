// What is kept of a photo: patches of its large and close templates, and of every size of a pyramid.

import { toHalf } from "./arithmetic.js";
import { PATCH_CELLS, cellGrid, encodePatches, shrink } from "./gradients.js";
import { DEPTH, UNIT } from "./products.js";
import { STEP } from "./samples.js";

/**
 * Shared by all photos: pixels of the longer sides of templates and pyramid, and the whitening.
 * @typedef {{template: number, close: number, pyramid: number[]}} Sides
 * @typedef {import("./products.js").Patches} Patches
 * @typedef {{template: Patches, close: Patches, pyramid: Patches[], shape: [number, number], background: number}} Views
 */

/**
 * About 1 MB; may be transferred (`codes.buffer`) and stored. `structure` is the share of a photo's
 * patches that can be judged, `background` its score with pictures of other things, NaN of a query.
 * Codes of `spare` features may move to a worker, and are then no longer here.
 * @typedef {{shape: [number, number], codes: Int16Array, structure: number, background: number,
 *   spare?: boolean}} Features
 */

/** Rows and columns of every `step`-th patch. @param {[number, number]} shape @param {number} side @param {number} step */
const gridOf = (shape, side, step) =>
  cellGrid(shape, side).map((cells) => Math.ceil((cells - PATCH_CELLS + 1) / step));

/** The parts of a photo's codes. @param {Features} features @param {Sides} sides @returns {Views} */
export function viewsOf({ shape, codes, background }, sides) {
  let start = 0;
  const part = (/** @type {number} */ side, step = 1) => {
    const [rows, columns] = gridOf(shape, side, step), from = start;
    start += rows * columns * DEPTH;
    return { rows, columns, codes: codes.subarray(from, start) };
  };
  const template = part(sides.template, STEP), close = part(sides.close, STEP);
  return { template, close, pyramid: sides.pyramid.map((side) => part(side)), shape, background };
}

/**
 * Everything but the background score.
 * @param {import("./pixels.js").Grey} grey @param {Sides} sides @param {import("./gradients.js").Whitening} whitening
 * @returns {Features}
 */
export function encodeGrey(grey, sides, whitening) {
  const shape = /** @type {[number, number]} */ ([grey.height, grey.width]);
  const count = [[sides.template, STEP], [sides.close, STEP], ...sides.pyramid.map((side) => [side, 1])]
    .map(([side, step]) => gridOf(shape, side, step)).reduce((sum, [rows, columns]) => sum + rows * columns, 0);
  const features = { shape, codes: new Int16Array(DEPTH * count), structure: 0, background: NaN };
  const { template, close, pyramid } = viewsOf(features, sides);
  encodePatches(grey, sides.template, whitening, STEP, template);
  encodePatches(grey, sides.close, whitening, STEP, close);
  pyramid.forEach((level, at) => encodePatches(grey, sides.pyramid[at], whitening, 1, level, toHalf));
  const small = shrink(grey, Math.min(sides.template, Math.max(...shape)));
  return { ...features, structure: structureOf(template) * detailOf(small) };
}

/** What share of its structure a picture keeps for its smoothness. @param {import("./pixels.js").Grey} grey */
function detailOf({ width, data }) {
  const [one, two] = [1, 2].map((n) => data.reduce((sum, value, at) => sum
    + (at % width < n ? 0 : (value - data[at - n]) ** 2)
    + (at < n * width ? 0 : (value - data[at - n * width]) ** 2), 0));
  return Math.min(Math.max((0.9 - two / Math.max(4 * one, 1)) / 0.1, 0), 1);
}

/** The share of patches that are steeper than noise, and not like both left and above them. @param {Patches} template */
function structureOf({ rows, columns, codes }) {
  const product = (/** @type {number} */ one, /** @type {number} */ other) => {
    let sum = 0;
    for (let d = 0; d < DEPTH; d++) sum += codes[one * DEPTH + d] * codes[other * DEPTH + d];
    return sum / UNIT ** 2;
  };
  let counted = 0;
  for (let patch = 0; patch < rows * columns; patch++) {
    const row = Math.floor(patch / columns), column = patch % columns, square = product(patch, patch);
    const likeness = [
      Math.max(row - STEP, 0) * columns + column,
      row * columns + Math.max(column - STEP, 0),
    ].map((other) => product(patch, other) / Math.sqrt(square * product(other, other) || 1));
    if (square > 0.5 && Math.min(...likeness) < 0.7) counted++;
  }
  return counted / (rows * columns);
}
