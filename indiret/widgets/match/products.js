// Products of patches, two at a time: in 53 bits the sum low + 2³¹ high of two patches, times a
// third, holds both products, the high one exactly, the low one to some 1e-6 of a cosine.

export const DEPTH = 64; // numbers of a whitened patch
export const UNIT = 2 ** 15; // the code of 1; no patch is longer than that, so |product| < 2³⁰
const SHIFT = 2 ** 31;

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
 * @returns {{values: Float64Array, columns: number}} (m, columns), n and what fills its last block
 */
export function multiply(left, right, m, n, depth) {
  const columns = Math.ceil(n / 4) * 4, values = scratchOf("products", (m + 1) * columns, Float64Array);
  for (let row = 0; row < m; row += 2) {
    const end = (row + 2) * depth;
    for (let column = 0, b = 0; column < columns; column += 4) {
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
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

/**
 * A template as `rowProducts` takes it.
 * @param {Patches} template
 * @returns {{rows: number, columns: number, blocks: Float64Array}}
 */
export function templateBlocks({ rows, columns, codes }) {
  return { rows, columns, blocks: interleave(codes, rows * columns, DEPTH, 4) };
}

/**
 * Products of one row of a target's patches with all of a template's, times UNIT². Calls
 * `take(pair, low, high)` for every two patches of the row, 2 pair and 2 pair + 1, with
 * (template's patches,) each; past the row's end all are 0.
 * @param {Patches} target @param {number} row @param {ReturnType<typeof templateBlocks>} template
 * @param {(pair: number, low: Float64Array, high: Float64Array) => void} take
 */
export function rowProducts({ columns, codes }, row, template, take) {
  const pairs = Math.ceil(columns / 2), length = template.rows * template.columns;
  const packed = scratchOf("packed", (pairs + 1) * DEPTH, Float64Array).fill(0, 0, (pairs + 1) * DEPTH);
  for (let column = 0, from = row * columns * DEPTH; column < columns; column++) {
    const pair = column >> 1, times = column & 1 ? SHIFT : 1;
    let to = (pair - (pair & 1)) * DEPTH + (pair & 1);
    for (let d = 0; d < DEPTH; d++, from++, to += 2) packed[to] += codes[from] * times;
  }
  const { values, columns: wide } = multiply(packed, template.blocks, pairs, length, DEPTH);
  const low = scratchOf("low", length, Float64Array), high = scratchOf("high", length, Float64Array);
  for (let pair = 0; pair < pairs; pair++) {
    for (let at = 0; at < length; at++) {
      const both = values[pair * wide + at];
      high[at] = Math.floor(both * (1 / SHIFT) + 0.5);
      low[at] = both - high[at] * SHIFT;
    }
    take(pair, low, high);
  }
}

/**
 * Cosines of all patches of a target with all of a template's, written over at the next call.
 * @param {Patches} target @param {Patches} template
 * @returns {Float32Array} (target's patches, template's patches)
 */
export function cosinesOf(target, template) {
  const blocks = templateBlocks(template), length = template.rows * template.columns;
  const size = target.rows * target.columns * length, unit = UNIT ** -2;
  const made = scratchOf("cosines", size, Float32Array).subarray(0, size);
  for (let row = 0; row < target.rows; row++) {
    rowProducts(target, row, blocks, (pair, low, high) => {
      const start = (row * target.columns + 2 * pair) * length;
      for (let at = 0; at < length; at++) made[start + at] = low[at] * unit;
      if (2 * pair + 1 === target.columns) return;
      for (let at = 0; at < length; at++) made[start + length + at] = high[at] * unit;
    });
  }
  return made;
}
