// Which patches of two photos a pair of planes puts together, as planes/correspondence.py.

import { transfer } from "./arithmetic.js";
import { PATCH_CELLS, cellGrid, patchGrid } from "./gradients.js";
import { STEP } from "./samples.js";

const GRID = 14; // patches of an evidence map along the longer side
const EXTENT = 5; // patches of a template, up and down and aside, over which support is averaged

/**
 * @typedef {[number, number]} Shape height and width
 * @typedef {[number, number][]} Points y and x from 0 to 1
 * @typedef {{rows: number, columns: number, values: Float32Array}} EvidenceMap
 * A template's plane in another photo: what is known along it, the probability that each patch is
 * right, and the shape and long side in pixels of the template's photo, and of the other.
 * @typedef {object} Direction
 * @property {import("./samples.js").PlaneSample} sample
 * @property {Float64Array} support
 * @property {Shape} shape
 * @property {number} side
 * @property {Shape} searched
 * @property {number} level
 *
 * Where a template's patches lie in their own photo and in the other, and their support.
 * @typedef {{own: Points, matched: Points, support: Float64Array}} Correspondence
 */

/**
 * @param {Direction} direction
 * @returns {Correspondence}
 */
export function correspond(direction) {
  const { sample: { K, L }, support, shape, side } = direction, cells = cellGrid(shape, side);
  const affine = planeAffine(direction);
  const own = Array.from(support, (_, patch) => /** @type {[number, number]} */ (
    [Math.floor(patch / L), patch % L].map((at, axis) => (STEP * at + PATCH_CELLS / 2) / cells[axis])));
  return { own, matched: own.map((point) => transfer(affine, point)), support: smooth(support, K, L) };
}

/**
 * The affine map (2, 3) by which a fitted plane sends places of the template's photo to the other's.
 * @param {Direction} direction
 */
export function planeAffine({ sample: { plane: { matrix, offset } }, shape, side, searched, level }) {
  const from = cellGrid(shape, side), to = cellGrid(searched, level), half = PATCH_CELLS / 2;
  return matrix.map((row, axis) => [
    ...row.map((value, other) => (value * from[other]) / STEP / to[axis]),
    (offset[axis] + half - ((row[0] + row[1]) * half) / STEP) / to[axis],
  ]);
}

/** The root of the mean support around each patch. @param {Float64Array} support @param {number} K @param {number} L */
function smooth(support, K, L) {
  const reach = EXTENT >> 1;
  return support.map((_, patch) => {
    const k = Math.floor(patch / L), l = patch % L;
    let sum = 0, count = 0;
    for (let a = Math.max(0, k - reach); a <= Math.min(K - 1, k + reach); a++) {
      for (let b = Math.max(0, l - reach); b <= Math.min(L - 1, l + reach); b++, count++) sum += support[a * L + b];
    }
    return Math.sqrt(sum / count);
  });
}

/**
 * Evidence M* of two photos, (I, J, K, L), with P, its sums for each target patch, and Q, for each
 * query patch.
 * @param {Correspondence} forward query in target @param {Correspondence} backward target in query
 * @param {Shape} target @param {Shape} query
 */
export function splat(forward, backward, target, query) {
  const [I, J] = patchGrid(target, GRID), [K, L] = patchGrid(query, GRID);
  const values = new Float32Array(I * J * K * L);
  const P = { rows: I, columns: J, values: new Float32Array(I * J) };
  const Q = { rows: K, columns: L, values: new Float32Array(K * L) };
  /** @param {Points} inQuery @param {Points} inTarget @param {Float64Array} support */
  const add = (inQuery, inTarget, support) => support.forEach((value, patch) => {
    for (const [t, targetShare] of nearest(inTarget[patch], [I, J])) {
      for (const [q, queryShare] of nearest(inQuery[patch], [K, L])) {
        const part = value * targetShare * queryShare;
        values[t * K * L + q] += part;
        P.values[t] += part;
        Q.values[q] += part;
      }
    }
  });
  add(forward.own, forward.matched, forward.support);
  add(backward.matched, backward.own, backward.support);
  return { values, P, Q };
}

/**
 * The up to four patches nearest to a place, with bilinear weights; none of a place outside.
 * @param {[number, number]} place @param {[number, number]} grid
 * @returns {[number, number][]} numbers of patches, and weights
 */
function nearest([y, x], [rows, columns]) {
  if (!(y >= 0 && y <= 1 && x >= 0 && x <= 1)) return [];
  const [down, right] = [[y, rows], [x, columns]].map(([at, length]) =>
    Math.min(Math.max(at * length - 0.5, 0), length - 1));
  /** @type {[number, number][]} */
  const found = [];
  for (let i = Math.floor(down); i <= Math.ceil(down); i++) {
    for (let j = Math.floor(right); j <= Math.ceil(right); j++) {
      found.push([i * columns + j, (1 - Math.abs(down - i)) * (1 - Math.abs(right - j))]);
    }
  }
  return found;
}
