// T sampled along the best plane of either direction, as planes/samples.py: pictures of the
// template, and a few numbers.

import { roundHalfEven } from "./arithmetic.js";
import { placeOf, refinePlane, samplePooled } from "./geometry.js";
import { DEPTH, UNIT, cosinesOf } from "./products.js";
import { translationGrid } from "./voting.js";

export const STEP = 2; // every second patch of a template votes
export const CLOSE_WEIGHT = 0.5; // of a vote of a close template beside one of a large template
export const CHANNELS = 8; // of maps: response, cosine, unrefined, gap, rank, reverse rank, norm, inside
export const NORM = 6; // the channel
export const SCORE = 6; // the number

/**
 * @typedef {import("./products.js").Patches} Patches
 * @typedef {import("./voting.js").PlaneMatch} PlaneMatch
 * @typedef {import("./geometry.js").Plane} Plane
 * What is known along one plane: maps (CHANNELS, K, L), and numbers of the plane as a whole.
 * @typedef {{maps: Float64Array, K: number, L: number, numbers: number[], plane: Plane}} PlaneSample
 */

/**
 * @param {Patches} template that found the plane
 * @param {Patches[]} pyramid in which it was found
 * @param {PlaneMatch & {score: number}} match
 * @param {number} background score of the target
 * @returns {PlaneSample}
 */
export function sampleAlongPlane(template, pyramid, match, background) {
  const target = pyramid[match.level], { rows, columns } = target, { rows: K, columns: L } = template;
  const size = K * L, cosines = { values: cosinesOf(target, template), rows, columns, K, L };
  const [, wide] = translationGrid((rows + 1) >> 1, (columns + 1) >> 1, template);
  const shift = [Math.floor(match.translation / wide) - (K >> 1), (match.translation % wide) - (L >> 1)];
  const voted = { matrix: [[STEP, 0], [0, STEP]], offset: shift.map((at) => 2 * at), votes: match.votes };
  const plane = refinePlane(cosines, voted);
  const { responses, cosines: exact } = samplePooled(cosines, plane);
  const { responses: unrefined } = samplePooled(cosines, voted);
  const { highest, larger } = amongTargets(cosines, exact);
  const maps = new Float64Array(CHANNELS * size);
  for (let patch = 0; patch < size; patch++) {
    const [i, j] = placeOf(plane, Math.floor(patch / L), patch % L);
    const inside = i >= 0 && i <= rows - 1 && j >= 0 && j <= columns - 1;
    maps[NORM * size + patch] = lengthOf(template, patch);
    if (!inside) continue;
    const there = (roundHalfEven(i) * columns + roundHalfEven(j)) * size;
    let rivals = 0;
    for (let at = there; at < there + size; at++) rivals += cosines.values[at] > exact[patch] ? 1 : 0;
    [responses[patch], exact[patch], unrefined[patch], highest[patch] - exact[patch],
      rank(larger[patch], rows * columns), rank(rivals, size)]
      .forEach((value, channel) => { maps[channel * size + patch] = value; });
    maps[(CHANNELS - 1) * size + patch] = 1;
  }
  const [[down, across], [along, right]] = plane.matrix.map((row) => row.map((value) => value / STEP));
  const numbers = [
    10 * match.votes,
    match.zScore / 10,
    10 * plane.votes * (match.close ? CLOSE_WEIGHT : 1),
    match.level / pyramid.length,
    Math.log(Math.max(down * right - across * along, 1e-2)),
    Math.abs(across) + Math.abs(along) + Math.abs(down - right),
    match.score / Math.sqrt(background),
    Math.log(background),
  ];
  return { maps, K, L, numbers, plane };
}

/**
 * Of each template patch, its highest cosine, and how many target patches have more than is given.
 * @param {import("./geometry.js").Cosines} cosines @param {Float64Array} least
 */
function amongTargets({ values }, least) {
  const highest = new Float64Array(least.length).fill(-Infinity), larger = new Float64Array(least.length);
  for (let start = 0; start < values.length; start += least.length) {
    for (let patch = 0; patch < least.length; patch++) {
      const value = values[start + patch];
      if (value > least[patch]) larger[patch]++;
      if (value > highest[patch]) highest[patch] = value;
    }
  }
  return { highest, larger };
}

/** 1 for the best of so many, 0 for the last, in logarithmic steps. @param {number} larger @param {number} of */
const rank = (larger, of) => 1 - Math.log(larger + 1) / Math.log(of + 1);

/** @param {Patches} patches @param {number} patch */
function lengthOf({ codes }, patch) {
  let square = 0;
  for (let at = patch * DEPTH; at < (patch + 1) * DEPTH; at++) square += codes[at] ** 2;
  return Math.sqrt(square) / UNIT;
}
