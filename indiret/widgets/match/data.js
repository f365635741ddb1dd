// Constants of the matcher, as Python's `pack_matcher` packs them.

/**
 * Whitening, templates of pictures of other things, and the network's weights by name.
 * @typedef {object} MatcherData
 * @property {import("./features.js").Sides} sides
 * @property {Float32Array} mean
 * @property {Float32Array} matrix
 * @property {import("./frames.js").Templates[]} impostors
 * @property {Record<string, Float32Array>} weights
 */

/**
 * @param {{header: any, take: (length: number) => Uint8Array}} unpacked by `unpack` of shared.js
 * @returns {MatcherData}
 */
export function matcherData({ header, take }) {
  const floats = (/** @type {number} */ length) => new Float32Array(take(4 * length).slice().buffer);
  const weights = Object.fromEntries(header.weights.map(
    (/** @type {[string, number]} */ [name, length]) => [name, floats(length)]));
  const patches = (/** @type {[number, number, number]} */ [rows, columns, depth]) =>
    ({ rows, columns, codes: new Int16Array(take(2 * rows * columns * depth).slice().buffer) });
  const impostors = header.impostors.map((/** @type {any} */ { template, close }) =>
    ({ template: patches(template), close: patches(close) }));
  const { mean, matrix, ...network } = weights;
  return { sides: header.sides, mean, matrix, impostors, weights: network };
}
