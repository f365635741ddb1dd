// Votes for planes, as planes/voting.py: the mean of T along (i, j) = (k, l) + t for all t at once,
// of every second target patch and of a template's every second patch.

import { UNIT, eachAbove, scratchOf } from "./products.js";

export const COSINE_THRESHOLD = 0.3; // a cosine of whitened patches that says nothing yet
const POPULARITY_FLOOR = 0.001; // added to a target patch's mean response before the division
const QUARTERS = 4;

/**
 * The best plane of a template in a pyramid.
 * @typedef {object} PlaneMatch
 * @property {number} votes its mean response
 * @property {number} zScore among all planes of the pair
 * @property {number} level the number of its size in the pyramid
 * @property {number} translation its number among those of that size
 * @property {boolean} close whether a close template found it
 * @property {number} quarters mean of votes × z-score over the quarters of the template
 *
 * @typedef {import("./products.js").Patches} Patches
 * @typedef {ReturnType<typeof import("./products.js").templateBlocks>} Template
 */

/**
 * Rows and columns of translations t, t = 0 at (K // 2, L // 2), of so many pooled target patches.
 * @param {number} rows @param {number} columns @param {{rows: number, columns: number}} template
 */
export function translationGrid(rows, columns, { rows: K, columns: L }) {
  return [rows + 2 * (K >> 1) - (K - 1), columns + 2 * (L >> 1) - (L - 1)];
}

/** 1 beyond the middle of a side; of an odd number of patches, the first half has one more. */
const secondHalf = (/** @type {number} */ at, /** @type {number} */ length) => (at >= Math.ceil(length / 2) ? 1 : 0);

/**
 * @param {Template} template
 * @param {Patches[]} pyramid
 * @returns {PlaneMatch}
 */
export function bestPlane(template, pyramid) {
  const levels = pyramid.map((target, level) => houghVotes(pooledProducts(target, template), target, template, level));
  const whole = summary(levels.map(([first, second, third, last], level) => {
    const all = emptyVotes(`whole ${level}`, first.length);
    for (let at = 0; at < all.length; at++) all[at] = first[at] + second[at] + third[at] + last[at];
    return all;
  }));
  let product = 0;
  for (let part = 0; part < QUARTERS; part++) {
    const { highest, zScore } = summary(levels.map((quarters) => quarters[part]));
    product += highest * zScore;
  }
  return { votes: whole.highest, zScore: whole.zScore, level: whole.level, translation: whole.at,
    close: false, quarters: product }; // of four times the votes of a quarter, the mean of four
}

/** @param {string} name @param {number} size */
const emptyVotes = (name, size) => scratchOf(`votes ${name}`, size, Float64Array).subarray(0, size).fill(0);

/**
 * Of all planes, the highest votes, where, and their z-score.
 * @param {Float64Array[]} levels
 */
function summary(levels) {
  let count = 0, sum = 0, highest = -1, level = 0, at = 0;
  levels.forEach((votes, number) => {
    count += votes.length;
    for (let place = 0; place < votes.length; place++) {
      sum += votes[place];
      if (votes[place] > highest) [highest, level, at] = [votes[place], number, place];
    }
  });
  const mean = sum / count;
  let squares = 0;
  for (const votes of levels) {
    for (let place = 0; place < votes.length; place++) squares += (votes[place] - mean) ** 2;
  }
  return { highest, level, at, zScore: (highest - mean) / (Math.sqrt(squares / (count - 1)) + 1e-9) };
}

/**
 * Maxima over 3 × 3 target patches around every second one of the products with a template, and 0
 * where none is above the threshold.
 * @param {Patches} target
 * @param {Template} template
 * @returns {Float32Array} (I', J', template's patches), halves rounded up, times UNIT², from the
 *   start of scratch memory: written over at the next call
 */
function pooledProducts(target, template) {
  const tall = (target.rows + 1) >> 1, wide = (target.columns + 1) >> 1, length = template.rows * template.columns;
  const size = tall * wide * length, pooled = scratchOf("pooled", size, Float32Array).fill(0, 0, size);
  eachAbove(target, template, COSINE_THRESHOLD * UNIT ** 2, (patch, at, product) => {
    const row = Math.floor(patch / target.columns), column = patch % target.columns;
    for (let i = row >> 1; i <= (row + 1) >> 1 && i < tall; i++) {
      for (let j = column >> 1; j <= (column + 1) >> 1 && j < wide; j++) {
        const to = (i * wide + j) * length + at;
        if (product > pooled[to]) pooled[to] = product;
      }
    }
  });
  return pooled;
}

/**
 * Responses are what is above the threshold, over the root of a target patch's mean; the quarters of
 * a template vote by themselves.
 * @param {Float32Array} pooled
 * @param {Patches} target
 * @param {Template} template
 * @param {number} level
 * @returns {Float64Array[]} over `translationGrid`
 */
function houghVotes(pooled, target, template, level) {
  const { rows: K, columns: L } = template, above = K >> 1, aside = L >> 1;
  const rows = (target.rows + 1) >> 1, columns = (target.columns + 1) >> 1;
  const [many, wide] = translationGrid(rows, columns, template);
  const quarters = Array.from({ length: QUARTERS }, (_, part) => emptyVotes(`${part} ${level}`, many * wide));
  const unit = UNIT ** -2, length = K * L;
  for (let i = 0, start = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++, start += length) {
      let sum = 0;
      for (let at = start; at < start + length; at++) sum += Math.max(0, pooled[at] * unit - COSINE_THRESHOLD);
      if (sum === 0) continue;
      const scale = 1 / (length * Math.sqrt(sum / length + POPULARITY_FLOOR));
      for (let k = 0, at = start; k < K; k++) {
        const a = i - k + above;
        if (a < 0 || a >= many) { at += L; continue; }
        for (let l = 0; l < L; l++, at++) {
          const b = j - l + aside, response = pooled[at] * unit - COSINE_THRESHOLD;
          if (response <= 0 || b < 0 || b >= wide) continue;
          quarters[2 * secondHalf(k, K) + secondHalf(l, L)][a * wide + b] += response * scale;
        }
      }
    }
  }
  return quarters;
}
