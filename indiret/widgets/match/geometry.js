// Planes of the tensor, (i, j) = A (k, l) + t, as planes/geometry.py: read T along one, and fit one.

import { roundHalfEven } from "./arithmetic.js";
import { COSINE_THRESHOLD } from "./voting.js";

const REACH = 2; // patches around where a plane puts one, in which it is looked for
const ROUNDS = 3;

/**
 * Template patch (k, l) lies at (i, j) = matrix (k, l) + offset; votes: its mean response.
 * @typedef {{matrix: number[][], offset: number[], votes: number}} Plane
 * T of a level of a pyramid and of a template, (rows · columns, K · L).
 * @typedef {{values: Float32Array, rows: number, columns: number, K: number, L: number}} Cosines
 */

/** @param {Plane} plane @param {number} k @param {number} l @returns {[number, number]} */
export function placeOf({ matrix: [[a, b], [c, d]], offset: [down, right] }, k, l) {
  return [a * k + b * l + down, c * k + d * l + right];
}

/** @param {Cosines} cosines @param {number} i @param {number} j @param {number} patch */
function cosineAt({ values, rows, columns, K, L }, i, j, patch) {
  return i >= 0 && i < rows && j >= 0 && j < columns ? values[(i * columns + j) * K * L + patch] : 0;
}

/**
 * Along a plane, bilinear between target patches and 0 outside: the maxima of 3 × 3 responses above
 * the threshold, and the cosines.
 * @param {Cosines} cosines @param {Plane} plane
 */
export function samplePooled(cosines, plane) {
  const { rows, columns, K, L } = cosines;
  const responses = new Float64Array(K * L), exact = new Float64Array(K * L);
  for (let patch = 0; patch < K * L; patch++) {
    const [down, right] = placeOf(plane, Math.floor(patch / L), patch % L);
    for (let i = Math.floor(down); i <= Math.floor(down) + 1; i++) {
      for (let j = Math.floor(right); j <= Math.floor(right) + 1; j++) {
        const weight = (1 - Math.abs(down - i)) * (1 - Math.abs(right - j));
        if (weight <= 0 || i < 0 || i >= rows || j < 0 || j >= columns) continue;
        let highest = COSINE_THRESHOLD;
        for (let a = i - 1; a <= i + 1; a++) {
          for (let b = j - 1; b <= j + 1; b++) highest = Math.max(highest, cosineAt(cosines, a, b, patch));
        }
        responses[patch] += weight * (highest - COSINE_THRESHOLD);
        exact[patch] += weight * cosineAt(cosines, i, j, patch);
      }
    }
  }
  return { responses, cosines: exact };
}

/**
 * Fit a plane to the responses near it. Within `REACH` of where the plane puts a patch, the centroid
 * of squared responses is where it should lie, their maximum its weight, and a ridge holds A.
 * @param {Cosines} cosines @param {Plane} plane
 * @returns {Plane} votes: the mean of the maxima
 */
export function refinePlane(cosines, plane) {
  const { K, L } = cosines, middle = [(K - 1) / 2, (L - 1) / 2];
  const squares = [(K * K - 1) / 12, (L * L - 1) / 12, 0]; // mean squares of k and l around the middle
  for (let round = 0; round < ROUNDS; round++) {
    const moments = squares.map(() => [0, 0, 0]);
    const crossed = squares.map(() => [0, 0]);
    let weights = 0;
    for (let patch = 0; patch < K * L; patch++) {
      const k = Math.floor(patch / L), l = patch % L;
      const { weight, centre } = strongestNear(cosines, placeOf(plane, k, l), patch);
      const x = [k - middle[0], l - middle[1], 1];
      weights += weight;
      for (let p = 0; p < 3; p++) {
        for (let q = 0; q < 3; q++) moments[p][q] += weight * x[p] * x[q];
        for (let q = 0; q < 2; q++) crossed[p][q] += weight * x[p] * centre[q];
      }
    }
    if (weights <= 0) return { ...plane, votes: 0 };
    const [[a, b], [c, d]] = plane.matrix;
    const before = [[a, c], [b, d], placeOf(plane, middle[0], middle[1])];
    const left = moments.map((row, p) => row.map((value, q) =>
      value / weights + (p === q ? 0.1 * squares[p] + 1e-6 : 0)));
    const right = crossed.map((row, p) => row.map((value, q) =>
      value / weights + (0.1 * squares[p] + 1e-6) * before[p][q]));
    const [first, second, centre] = solve(left, right);
    const matrix = [[first[0], second[0]], [first[1], second[1]]];
    const offset = matrix.map(([one, other], axis) => centre[axis] - one * middle[0] - other * middle[1]);
    plane = { matrix, offset, votes: weights / (K * L) };
  }
  return plane;
}

/**
 * The highest response around a place, and the centroid of squared ones.
 * @param {Cosines} cosines @param {[number, number]} place @param {number} patch
 */
function strongestNear(cosines, place, patch) {
  const [down, right] = place.map(roundHalfEven);
  let weight = 0, pull = 0, below = 0, aside = 0;
  for (let a = -REACH; a <= REACH; a++) {
    for (let b = -REACH; b <= REACH; b++) {
      const response = Math.max(0, cosineAt(cosines, down + a, right + b, patch) - COSINE_THRESHOLD);
      weight = Math.max(weight, response);
      pull += response ** 2;
      below += a * response ** 2;
      aside += b * response ** 2;
    }
  }
  const sum = Math.max(pull, 1e-12);
  return { weight, centre: [down + below / sum, right + aside / sum] };
}

/**
 * X of A X = B, by elimination with the largest pivot.
 * @param {number[][]} left A @param {number[][]} right B
 */
function solve(left, right) {
  const rows = left.map((row, at) => [...row, ...right[at]]), size = rows.length;
  for (let at = 0; at < size; at++) {
    const pivot = rows.reduce((best, row, r) =>
      (r > at && Math.abs(row[at]) > Math.abs(rows[best][at]) ? r : best), at);
    [rows[at], rows[pivot]] = [rows[pivot], rows[at]];
    rows.forEach((row, r) => {
      const factor = row[at] / rows[at][at];
      if (r !== at) rows[at].forEach((value, column) => { row[column] -= factor * value; });
    });
  }
  return rows.map((row, at) => row.slice(size).map((value) => value / row[at]));
}
