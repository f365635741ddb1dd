// Products of patches, two at a time: in 53 bits the sum low + 2³¹ high of two patches, times a
// third, holds both products, the high one exactly, the low one to some 1e-6 of a cosine.
// `eachAbove` makes three coarse ones at a time, and exactly those that may pass.

export const DEPTH = 64; // numbers of a whitened patch
export const UNIT = 2 ** 15; // the code of 1; no patch is longer than that, so |product| < 2³⁰
const SHIFT = 2 ** 31;
const GROUPS = 64; // of three patches, that are multiplied at a time
const FIELD = 2 ** 17;
const COARSE = 224; // the code of 1 in coarse patches, whose products, 228² at most, stay in their fields
const COARSE_ERROR = 8 * COARSE + 17; // of a product: half a unit, √DEPTH times, in both patches

/**
 * A grid of patches (rows, columns, DEPTH).
 * @typedef {{rows: number, columns: number, codes: Int16Array}} Patches
 */

/** Memory that is used again, by name: fresh memory takes long. @type {Record<string, any>} */
const scratch = {};

/**
 * @template {Float32Array | Float64Array} Kind
 * @param {string} name @param {number} size @param {new (size: number) => Kind} Kind
 * @returns {Kind} numbers to be written over, of this size at least
 */
export function scratchOf(name, size, Kind) {
  if (!(scratch[name]?.length >= size)) scratch[name] = new Kind(size);
  return scratch[name];
}

/**
 * Rows (count, depth) as `multiply` reads them: in blocks of so many lanes, number by number.
 * @param {ArrayLike<number>} values @param {number} count @param {number} depth @param {number} lanes
 */
export function interleave(values, count, depth, lanes) {
  const made = new Float64Array(Math.ceil(count / lanes) * lanes * depth);
  for (let row = 0; row < count; row++) {
    const start = (row - (row % lanes)) * depth + (row % lanes);
    for (let d = 0; d < depth; d++) made[start + d * lanes] = values[row * depth + d];
  }
  return made;
}

/**
 * All products of rows in blocks of 2 with rows in blocks of 4, written over at the next call.
 * @param {Float64Array} left @param {Float64Array} right
 * @param {number} m rows of left @param {number} n rows of right @param {number} depth
 * @param {number} start added to each product
 * @returns {{values: Float64Array, columns: number}} (m, columns), n and what fills its last block
 */
export function multiply(left, right, m, n, depth, start = 0) {
  const columns = Math.ceil(n / 4) * 4, values = scratchOf("products", (m + 1) * columns, Float64Array);
  const zero = +start; // compilers see that it is a number
  for (let row = 0; row < m; row += 2) {
    const end = (row + 2) * depth;
    for (let column = 0, b = 0; column < columns; column += 4) {
      let s00 = zero, s01 = zero, s02 = zero, s03 = zero, s10 = zero, s11 = zero, s12 = zero, s13 = zero;
      for (let a = row * depth; a < end; a += 2, b += 4) {
        const x = left[a], y = left[a + 1];
        const p = right[b], q = right[b + 1], r = right[b + 2], s = right[b + 3];
        s00 += x * p; s01 += x * q; s02 += x * r; s03 += x * s;
        s10 += y * p; s11 += y * q; s12 += y * r; s13 += y * s;
      }
      const at = row * columns + column, next = at + columns;
      values[at] = s00; values[at + 1] = s01; values[at + 2] = s02; values[at + 3] = s03;
      values[next] = s10; values[next + 1] = s11; values[next + 2] = s12; values[next + 3] = s13;
    }
  }
  return { values, columns };
}

/** A code with 9 of its 16 bits, `COARSE` for 1. @param {number} code */
const coarse = (code) => (code * COARSE + UNIT / 2) >> 15;

/**
 * A template as `eachAbove` takes it.
 * @param {Patches} template
 */
export function templateBlocks({ rows, columns, codes }) {
  return { rows, columns, codes, blocks: interleave(codes.map(coarse), rows * columns, DEPTH, 4) };
}

/**
 * Calls `take(patch, at, product)` for every product of a target's patch with a template's that is more
 * than `least`, times UNIT². One number holds the coarse products of three patches in three fields of
 * bits; the first bit of a field is set where the exact product may be more, and only there it is made.
 * @param {Patches} target @param {ReturnType<typeof templateBlocks>} template @param {number} least
 * @param {(patch: number, at: number, product: number) => void} take
 */
export function eachAbove({ rows, columns, codes }, template, least, take) {
  const count = rows * columns, length = template.rows * template.columns;
  const fields = scratchOf("packed", GROUPS * DEPTH, Float64Array);
  const bias = FIELD / 2 - Math.floor(least * (COARSE / UNIT) ** 2 - COARSE_ERROR);
  const start = 2 ** 52 + bias * (1 + FIELD + FIELD ** 2); // from 2⁵² on the last bit is a unit
  const check = (/** @type {number} */ patch, /** @type {number} */ at) => {
    let product = 0;
    for (let a = patch * DEPTH, b = at * DEPTH, end = a + DEPTH; a < end; a++, b++) {
      product += codes[a] * template.codes[b];
    }
    if (product > least) take(patch, at, product);
  };
  for (let first = 0; first < count; first += 3 * GROUPS) {
    const end = Math.min(first + 3 * GROUPS, count), groups = Math.ceil((end - first) / 3);
    fields.fill(0);
    for (let patch = first, from = first * DEPTH; patch < end; patch++) {
      const group = Math.floor((patch - first) / 3), times = FIELD ** ((patch - first) % 3);
      let to = (group & ~1) * DEPTH + (group & 1);
      for (let d = 0; d < DEPTH; d++, from++, to += 2) fields[to] += coarse(codes[from]) * times;
    }
    const { values, columns: wide } = multiply(fields, template.blocks, groups, length, DEPTH, start);
    const words = new Int32Array(values.buffer);
    for (let group = 0, patch = first; group < groups; group++, patch += 3) {
      for (let at = 0, word = 2 * group * wide; at < length; at++, word += 2) {
        const low = words[word] & (1 << 16), high = words[word + 1] & ((1 << 1) | (1 << 18));
        if ((low | high) === 0) continue;
        if (low) check(patch, at);
        if (high & (1 << 1)) check(patch + 1, at);
        if (high & (1 << 18)) check(patch + 2, at);
      }
    }
  }
}

/**
 * Cosines of all patches of a target with all of a template's, written over at the next call.
 * @param {Patches} target @param {Patches} template
 * @returns {Float32Array} (target's patches, template's patches)
 */
export function cosinesOf({ rows, columns, codes }, template) {
  const length = template.rows * template.columns, size = rows * columns * length, pairs = Math.ceil(columns / 2);
  const blocks = interleave(template.codes, length, DEPTH, 4);
  const made = scratchOf("cosines", size, Float32Array).subarray(0, size);
  const packed = scratchOf("packed", (pairs + 1) * DEPTH, Float64Array);
  for (let row = 0, patch = 0; row < rows; row++) {
    packed.fill(0);
    for (let column = 0, from = row * columns * DEPTH; column < columns; column++) {
      const pair = column >> 1, times = column & 1 ? SHIFT : 1;
      let to = (pair - (pair & 1)) * DEPTH + (pair & 1);
      for (let d = 0; d < DEPTH; d++, from++, to += 2) packed[to] += codes[from] * times;
    }
    const { values, columns: wide } = multiply(packed, blocks, pairs, length, DEPTH);
    for (let column = 0; column < columns; column++, patch++) {
      const start = (column >> 1) * wide;
      for (let at = 0; at < length; at++) {
        const both = values[start + at], high = Math.floor(both * (1 / SHIFT) + 0.5);
        made[patch * length + at] = (column & 1 ? high : both - high * SHIFT) / UNIT ** 2;
      }
    }
  }
  return made;
}
