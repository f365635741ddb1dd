// What a page asks of the plane vote and its network: the retriever `plane-net` of Python.

import { inverse, transfer } from "./arithmetic.js";
import { correspond, planeAffine, splat } from "./evidence.js";
import { encodeGrey, viewsOf } from "./features.js";
import { withoutFrame } from "./frames.js";
import { whiteningOf } from "./gradients.js";
import { backgroundScore, matchTemplates } from "./matching.js";
import { judge, sigmoid } from "./network.js";
import { toGrey } from "./pixels.js";
import { sampleAlongPlane } from "./samples.js";
import { pairScore } from "./scores.js";

/**
 * @typedef {import("./features.js").Features} Features
 * @typedef {import("./features.js").Views} Views
 * @typedef {import("./matching.js").Match} Match
 * Of a pair: `score` of the votes; `margin` of the network, by which photos are ranked; the
 * calibrated `probability` that both show the same; the share of the query's and of the target's
 * patches that could be judged; and the best planes, of the query in the target and the reverse.
 * @typedef {object} Verdict
 * @property {number} score
 * @property {number} margin
 * @property {number} probability
 * @property {[number, number]} structure
 * @property {[Match, Match]} planes
 *
 * @typedef {ReturnType<typeof createMatcher>} Matcher
 */

/** @param {import("./data.js").MatcherData} data */
export function createMatcher({ sides, mean, matrix, impostors, weights }) {
  const whitening = whiteningOf(mean, matrix);

  /** One photo's best plane in another, sampled.
   * @param {Views} own @param {Views} other @param {Match} match @param {number} background */
  function direction(own, other, match, background) {
    const { template, close } = withoutFrame(own, other);
    const sample = sampleAlongPlane(match.close ? close : template, other.pyramid, match, background);
    return { sample, match, shape: own.shape, side: match.close ? sides.close : sides.template,
      searched: other.shape, level: sides.pyramid[match.level] };
  }

  /** Both photos with the planes of both directions, sampled and judged.
   * @param {Features} query @param {Features} target @param {Match} [forward] @param {Match} [backward] */
  function judgePair(query, target, forward = matcher.match(query, target), backward = matcher.match(target, query)) {
    if (!(target.background > 0)) {
      throw new TypeError("The target was encoded as a query, without a background score; encode it as a target.");
    }
    const asking = viewsOf(query, sides), searched = viewsOf(target, sides);
    const directions = [
      direction(asking, searched, forward, target.background),
      direction(searched, asking, backward, target.background),
    ];
    const { margin, support } = judge(weights, directions.map(({ sample }) => sample));
    const [slope, offset] = weights.calibration;
    /** @type {Verdict} */
    const verdict = { score: pairScore(target.background, forward, backward), margin,
      probability: sigmoid(slope * margin + offset), structure: [query.structure, target.structure],
      planes: [forward, backward] };
    return { verdict, directions: directions.map((one, at) => ({ ...one, support: support[at] })) };
  }

  const matcher = {
    /**
     * What is kept of a photo. A query needs no background score, which takes most of the time.
     * @param {import("./pixels.js").Picture} picture
     * @returns {Features}
     */
    encode(picture, { query = false } = {}) {
      const features = encodeGrey(toGrey(picture), sides, whitening);
      if (query) return features;
      return { ...features, background: backgroundScore(impostors, viewsOf(features, sides), features.structure) };
    },

    /** The best plane of a query in a target, or of a target in a query.
     * @param {Features} source @param {Features} searched */
    match: (source, searched) => matchTemplates(viewsOf(source, sides), viewsOf(searched, sides)),

    /** @param {Features} query @param {Features} target @param {Match} [forward] @param {Match} [backward]
     * @returns {Verdict} */
    score: (query, target, forward, backward) => judgePair(query, target, forward, backward).verdict,

    /**
     * A verdict with its evidence: maps P of the target and Q of the query, all of M*[i, j, k, l], target
     * patch (i, j) and query patch (k, l), the affine map (2, 3) of the query's y and x from 0 to 1 to
     * the target's, and where it puts the query's corners.
     * @param {Features} query @param {Features} target
     */
    explain(query, target) {
      const { verdict, directions: [forward, backward] } = judgePair(query, target);
      const evidence = splat(correspond(forward), correspond(backward), target.shape, query.shape);
      const better = forward.match.score >= backward.match.score;
      const affine = better ? planeAffine(forward) : inverse(planeAffine(backward));
      const frame = [[0, 0], [0, 1], [1, 1], [1, 0]].map((corner) => transfer(affine, corner));
      return { ...verdict, ...evidence, affine, frame };
    },
  };
  return matcher;
}
