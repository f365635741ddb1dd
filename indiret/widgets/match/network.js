// The small network over samples of both directions, as planes/network.py. Its maps are (side² ·
// channels) here, place by place.

import { interleave, multiply } from "./products.js";
import { CHANNELS, NORM, SCORE } from "./samples.js";

/**
 * @typedef {import("./samples.js").PlaneSample} PlaneSample
 * @typedef {Record<string, Float32Array>} Weights by the names of the safetensors file
 */

/**
 * @param {Weights} weights
 * @param {PlaneSample[]} samples of both directions
 * @returns {{margin: number, support: Float64Array[]}} z_relevant − z_irrelevant with the votes'
 *   scores, and of each template's patches, (K, L), the probability that they are right
 */
export function judge(weights, samples) {
  const side = Math.max(...samples.flatMap(({ K, L }) => [K, L]));
  const seen = samples.map((sample) => seePlane(weights, sample, side));
  const pooled = seen.flatMap(({ means }, direction) => [...means, ...samples[direction].numbers]);
  const hidden = linear(pooled, weights["head.0.weight"], weights["head.0.bias"])
    .map((value) => Math.max(0, value));
  const [irrelevant, relevant] = linear(hidden, weights["head.2.weight"], weights["head.2.bias"]);
  const votes = samples.reduce((sum, { numbers }) => sum + numbers[SCORE], 0);
  return { margin: relevant - irrelevant + votes, support: seen.map(({ support }) => support) };
}

/** @param {number} value */
export const sigmoid = (value) => 1 / (1 + Math.exp(-value));

/**
 * Support of each patch of one direction, and means over the patches: of features by support, of
 * features, and of support.
 * @param {Weights} weights @param {PlaneSample} sample @param {number} side
 */
function seePlane(weights, sample, side) {
  const { K, L } = sample, width = weights["convolutions.0.bias"].length;
  let features = squareMaps(sample, side);
  for (const layer of ["convolutions.0", "convolutions.2", "convolutions.4"]) {
    features = convolve(features, side, weights[`${layer}.weight`], weights[`${layer}.bias`]);
  }
  const support = new Float64Array(K * L), sums = new Float64Array(2 * width + 1);
  let counted = 0;
  for (let patch = 0; patch < K * L; patch++) {
    if (sample.maps[NORM * K * L + patch] <= 0) continue;
    const start = (Math.floor(patch / L) * side + (patch % L)) * width;
    let logit = weights["support.bias"][0];
    for (let c = 0; c < width; c++) logit += weights["support.weight"][c] * features[start + c];
    support[patch] = sigmoid(logit);
    for (let c = 0; c < width; c++) {
      sums[c] += features[start + c] * support[patch];
      sums[width + c] += features[start + c];
    }
    sums[2 * width] += support[patch];
    counted++;
  }
  return { support, means: sums.map((sum) => sum / Math.max(1, counted)) };
}

/** Maps (CHANNELS, K, L) as squares, with zeros where they end. @param {PlaneSample} sample @param {number} side */
function squareMaps({ maps, K, L }, side) {
  const square = new Float64Array(side * side * CHANNELS);
  for (let patch = 0; patch < K * L; patch++) {
    const start = (Math.floor(patch / L) * side + (patch % L)) * CHANNELS;
    for (let c = 0; c < CHANNELS; c++) square[start + c] = maps[c * K * L + patch];
  }
  return square;
}

/**
 * ReLU of a 3 × 3 convolution with zeros around, as one product.
 * @param {Float64Array} input (side · side, channels) @param {number} side
 * @param {Float32Array} weight (width, channels, 3, 3) @param {Float32Array} bias
 */
function convolve(input, side, weight, bias) {
  const area = side * side, width = bias.length, channels = input.length / area, depth = 9 * channels;
  const unfolded = new Float64Array(area * depth);
  for (let place = 0; place < area; place++) {
    for (let tap = 0; tap < 9; tap++) {
      const row = Math.floor(place / side) + Math.floor(tap / 3) - 1, column = (place % side) + (tap % 3) - 1;
      if (row < 0 || row >= side || column < 0 || column >= side) continue;
      const from = (row * side + column) * channels, to = place * depth + tap;
      for (let c = 0; c < channels; c++) unfolded[to + 9 * c] = input[from + c];
    }
  }
  const { values, columns } = multiply(
    interleave(unfolded, area, depth, 2), interleave(weight, width, depth, 4), area, width, depth);
  return Float64Array.from({ length: area * width }, (_, at) =>
    Math.max(0, values[Math.floor(at / width) * columns + (at % width)] + bias[at % width]));
}

/** @param {number[]} input @param {Float32Array} weight @param {Float32Array} bias */
function linear(input, weight, bias) {
  return Array.from(bias, (start, row) =>
    input.reduce((sum, value, column) => sum + weight[row * input.length + column] * value, start));
}
