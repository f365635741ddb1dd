// Dense RootSIFT of a picture and its whitening, as planes/gradients.py: 64 numbers for each patch
// of 4 × 4 cells of 4 pixels, one patch a cell.

import { roundHalfEven } from "./arithmetic.js";
import { DEPTH, UNIT, interleave, multiply, scratchOf } from "./products.js";
import { resize } from "./pixels.js";

const CELL = 4; // pixels along a cell
export const PATCH_CELLS = 4; // cells along a patch
const DIRECTIONS = 8;
const RAW = DIRECTIONS * PATCH_CELLS * PATCH_CELLS; // numbers of a patch before it is whitened
const FLAT = (1.6 / 255) * (PATCH_CELLS * CELL) ** 2; // what noise alone sums to is no structure

/** The mean of all patches, and principal directions. @typedef {{mean: Float32Array, columns: Float64Array}} Whitening */

/**
 * As `indiret.patches.patch_grid` with the proportions kept.
 * @param {[number, number]} shape @param {number} most patches along the longer side
 * @returns {[number, number]}
 */
export function patchGrid([height, width], most) {
  const scale = Math.min(most / height, most / width);
  return [Math.max(1, roundHalfEven(height * scale)), Math.max(1, roundHalfEven(width * scale))];
}

/**
 * Rows and columns of cells of a picture made `longSide` pixels long.
 * @param {[number, number]} shape @param {number} longSide
 * @returns {[number, number]}
 */
export function cellGrid(shape, longSide) {
  const [rows, columns] = patchGrid(shape, Math.floor(longSide / CELL));
  return [Math.max(rows, PATCH_CELLS), Math.max(columns, PATCH_CELLS)];
}

/** @param {Float32Array} mean (RAW,) of patches @param {Float32Array} matrix (RAW, DEPTH) @returns {Whitening} */
export function whiteningOf(mean, matrix) {
  const columns = Float64Array.from(matrix, (_, at) => matrix[(at % RAW) * DEPTH + Math.floor(at / RAW)]);
  return { mean, columns: interleave(columns, DEPTH, RAW, 4) };
}

/** A grey picture made `longSide` pixels long. @param {import("./pixels.js").Grey} grey @param {number} longSide */
export function shrink(grey, longSide) {
  const [rows, columns] = cellGrid([grey.height, grey.width], longSide);
  return resize(grey, CELL * columns, CELL * rows);
}

/**
 * Write whitened patches of a grey picture made `longSide` pixels long, every `step`-th of them, with
 * numbers rounded as they are kept.
 * @param {import("./pixels.js").Grey} grey @param {number} longSide
 * @param {Whitening} whitening @param {number} step
 * @param {import("./products.js").Patches} patches to be written @param {(value: number) => number} [round]
 */
export function encodePatches(grey, longSide, { mean, columns: principal }, step,
  { rows: down, columns: across, codes }, round = (value) => value) {
  const small = shrink(grey, longSide), cells = cellSums(small), columns = small.width / CELL;
  const roots = scratchOf("roots", (across + 1) * RAW, Float64Array), norms = new Float64Array(across);
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      norms[column] = rootSift(cells, columns, step * row, step * column, mean, roots, column);
    }
    const { values, columns: wide } = multiply(roots, principal, across, DEPTH, RAW);
    for (let column = 0; column < across; column++) {
      let square = 0;
      for (let d = 0; d < DEPTH; d++) square += values[column * wide + d] ** 2;
      const scale = norms[column] / Math.max(Math.sqrt(square), 1e-12);
      const start = (row * across + column) * DEPTH;
      for (let d = 0; d < DEPTH; d++) codes[start + d] = Math.round(UNIT * round(scale * values[column * wide + d]));
    }
  }
}

/**
 * Write the root of a patch's histogram less the mean of all patches, as `multiply` takes it from the
 * left; the length of the root comes back.
 * @param {Float64Array} cells @param {number} columns @param {number} row @param {number} column
 * @param {Float32Array} mean @param {Float64Array} out @param {number} number of the patch there
 */
function rootSift(cells, columns, row, column, mean, out, number) {
  let sum = 0;
  for (let r = 0; r < PATCH_CELLS; r++) {
    const start = ((row + r) * columns + column) * DIRECTIONS;
    for (let at = 0; at < PATCH_CELLS * DIRECTIONS; at++) sum += cells[start + at];
  }
  const share = 1 / (sum + FLAT), first = (number & ~1) * RAW + (number & 1);
  for (let r = 0, to = 0; r < PATCH_CELLS; r++) {
    for (let c = 0; c < PATCH_CELLS; c++, to++) {
      const start = ((row + r) * columns + column + c) * DIRECTIONS;
      for (let d = 0; d < DIRECTIONS; d++) {
        const at = d * PATCH_CELLS * PATCH_CELLS + to;
        out[first + 2 * at] = Math.sqrt(cells[start + d] * share) - mean[at];
      }
    }
  }
  return Math.sqrt(sum * share);
}

/**
 * Gradients of eight directions summed over cells, weights falling off to the neighbours'.
 * @param {import("./pixels.js").Grey} picture of whole cells
 * @returns {Float64Array} (rows, columns, DIRECTIONS)
 */
function cellSums({ width, height, data }) {
  const columns = width / CELL, down = cellShares(height), across = cellShares(width);
  const sums = new Float64Array((height / CELL) * columns * DIRECTIONS);
  for (let y = 0; y < height; y++) {
    const above = Math.max(y - 1, 0) * width, below = Math.min(y + 1, height - 1) * width;
    for (let x = 0; x < width; x++) {
      const right = data[y * width + Math.min(x + 1, width - 1)] - data[y * width + Math.max(x - 1, 0)];
      const fall = data[below + x] - data[above + x];
      if (right === 0 && fall === 0) continue;
      const turn = Math.atan2(fall, right) * (DIRECTIONS / (2 * Math.PI));
      const low = Math.floor(turn), share = turn - low, steepness = Math.hypot(right, fall) / 510;
      const first = low & 7, second = (low + 1) & 7;
      for (let a = 2 * y; a < 2 * y + 2; a++) {
        for (let b = 2 * x; b < 2 * x + 2; b++) {
          const weight = down.weights[a] * across.weights[b] * steepness;
          const cell = (down.cells[a] * columns + across.cells[b]) * DIRECTIONS;
          sums[cell + first] += weight * (1 - share);
          sums[cell + second] += weight * share;
        }
      }
    }
  }
  return sums;
}

/**
 * The two cells along a side in which each pixel counts, and how much: a ramp of 1/8 … 7/8 … 1/8
 * over eight pixels; what lies past an edge is like the pixel at it.
 * @param {number} length pixels
 */
function cellShares(length) {
  const cells = new Int32Array(2 * length), weights = new Float64Array(2 * length), last = length / CELL - 1;
  for (let at = 0; at < length; at++) {
    const next = Math.floor((at + CELL / 2) / CELL); // the later of the two cells
    const past = (at + CELL / 2 - CELL * next + 0.5) / CELL;
    cells[2 * at] = Math.max(next - 1, 0);
    weights[2 * at] = next > 0 ? 1 - past : 0;
    cells[2 * at + 1] = Math.min(next, last);
    weights[2 * at + 1] = next <= last ? past : 0;
  }
  for (let past = 0.5 / CELL; past < 0.5; past += 1 / CELL) { // two pixels past either edge
    weights[1] += past;
    weights[2 * length - 2] += past;
  }
  return { cells, weights };
}
