// The best plane of one photo in another, and what it is worth, as planes/matching.py.

import { withoutFrame } from "./frames.js";
import { templateBlocks } from "./products.js";
import { CLOSE_WEIGHT } from "./samples.js";
import { bestPlane } from "./voting.js";

const QUARTER_WEIGHT = 0.5; // of the quarters' mean score beside that of the whole
const BACKGROUND_FLOOR = 1.5; // less than any photo with structure scores
const LITTLE_STRUCTURE = 0.2; // share of patches below which a photo can hardly be judged
const LEAST_STRUCTURE = 0.01; // with less, the floor rises no further

/**
 * @typedef {import("./voting.js").PlaneMatch & {score: number}} Match
 * @typedef {import("./features.js").Views} Views
 * @typedef {import("./frames.js").Templates} Templates
 */

/**
 * Of the large template in all sizes, or of the close one in the largest if that scores higher.
 * @param {Templates} source @param {Views} searched
 * @returns {Match}
 */
export function matchTemplates(source, searched) {
  const { template, close } = withoutFrame(source, searched);
  const large = scored(bestPlane(templateBlocks(template), searched.pyramid));
  const near = bestPlane(templateBlocks(close), searched.pyramid.slice(-1));
  const other = scored({ ...near, votes: CLOSE_WEIGHT * near.votes, level: searched.pyramid.length - 1,
    close: true, quarters: large.quarters });
  return other.score > large.score ? other : large;
}

/** @param {import("./voting.js").PlaneMatch} match @returns {Match} */
const scored = (match) => ({ ...match, score: match.votes * match.zScore + QUARTER_WEIGHT * match.quarters });

/**
 * How good the planes of any query are in a photo; of one with little to judge, more than that.
 * @param {Templates[]} impostors pictures of other things @param {Views} views @param {number} structure
 */
export function backgroundScore(impostors, views, structure) {
  const scores = impostors.map((one) => matchTemplates(one, views).score).sort((a, b) => a - b);
  const median = (scores[Math.floor((scores.length - 1) / 2)] + scores[scores.length >> 1]) / 2;
  return Math.max(median, BACKGROUND_FLOOR * Math.max(1, LITTLE_STRUCTURE / Math.max(structure, LEAST_STRUCTURE)));
}
