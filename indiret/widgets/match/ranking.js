// Ranking from coarse to fine, as `plane-net` of Python: all photos by the query's votes in them, the
// best 70 % also by theirs in the query, the best 50 % by the network.

import { roundHalfEven } from "./arithmetic.js";
import { pairScore } from "./scores.js";

const BACKWARD_SHARE = 0.7;
const JUDGED_SHARE = 0.5;
const LEAST = 20; // photos that a share has, however few that is of all
const UNJUDGED = -1e6; // photos that the network did not judge score this or less

/**
 * @typedef {import("./features.js").Features} Features
 * @typedef {import("./matching.js").Match} Match
 * A photo's number among the targets, its score, larger for more alike, its probability, null if the
 * network did not judge it, and whether it did.
 * @typedef {{index: number, score: number, probability: number | null, judged: boolean}} Hit
 * `onProgress` is told after every step how many are done, of how many, and the ranking so far.
 * @typedef {{done: number, total: number, hits: Hit[]}} Progress
 * @typedef {{onProgress?: (progress: Progress) => void, signal?: AbortSignal}} RankOptions
 * @typedef {import("./matcher.js").Verdict} Verdict
 * @typedef {object} Steps
 * @property {(source: Features, searched: Features) => Promise<Match>} match
 * @property {(query: Features, target: Features, forward: Match, backward: Match) => Promise<Verdict>} score
 */

/**
 * @param {Steps} steps @param {Features} query @param {Features[]} targets @param {RankOptions} [options]
 * @param {number} lanes steps that are taken at once
 * @returns {Promise<Hit[]>} best first, ties in the order of the targets
 */
export async function rankBy(steps, query, targets, { onProgress, signal } = {}, lanes = 1) {
  /** @type {Map<number, Match>} */
  const forward = new Map(), backward = new Map();
  /** @type {Map<number, number>} */
  const scores = new Map(), pairScores = new Map(), margins = new Map(), probabilities = new Map();
  const count = targets.length, total = count + shareOf(count, BACKWARD_SHARE) + shareOf(count, JUDGED_SHARE);
  let done = 0;

  /** @returns {Hit[]} */
  const hits = () => {
    const known = [...scores.keys()].sort((a, b) => a - b);
    let standing = known.map((at) => scores.get(at) ?? 0);
    for (const later of [pairScores, margins]) standing = splice(standing, known, later);
    return known
      .map((index, at) => ({ index, score: standing[at], probability: probabilities.get(index) ?? null,
        judged: margins.has(index) }))
      .sort((a, b) => b.score - a.score || a.index - b.index);
  };
  /** @param {number[]} places @param {(at: number) => Promise<void>} step */
  const each = async (places, step) => {
    const waiting = places.values();
    const lane = async () => {
      for (const at of waiting) {
        signal?.throwIfAborted();
        await step(at);
        onProgress?.({ done: ++done, total, hits: hits() });
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  };
  const best = (/** @type {number} */ share) => hits().slice(0, shareOf(count, share)).map(({ index }) => index);

  await each([...targets.keys()], async (at) => {
    const match = await steps.match(query, targets[at]);
    forward.set(at, match);
    scores.set(at, pairScore(targets[at].background, match));
  });
  await each(best(BACKWARD_SHARE), async (at) => {
    const match = await steps.match(targets[at], query);
    backward.set(at, match);
    pairScores.set(at, pairScore(targets[at].background, matchOf(forward, at), match));
  });
  await each(best(JUDGED_SHARE), async (at) => {
    const verdict = await steps.score(query, targets[at], matchOf(forward, at), matchOf(backward, at));
    probabilities.set(at, verdict.probability);
    margins.set(at, verdict.margin);
  });
  signal?.throwIfAborted();
  return hits();
}

/** @param {number} count @param {number} share */
export const shareOf = (count, share) => Math.min(count, Math.max(roundHalfEven(share * count), LEAST));

/** @param {Map<number, Match>} matches @param {number} at @returns {Match} */
const matchOf = (matches, at) => /** @type {Match} */ (matches.get(at));

/**
 * New scores of some photos; all others come after them in their old order, unjudged.
 * @param {number[]} scores @param {number[]} names of the photos @param {Map<number, number>} later
 */
function splice(scores, names, later) {
  if (later.size === 0) return scores;
  const highest = Math.min(UNJUDGED, Math.min(...later.values()) - 1);
  const steps = new Map([...new Set(scores)].sort((a, b) => b - a).map((score, step) => [score, step]));
  return scores.map((score, at) => later.get(names[at]) ?? highest - (steps.get(score) ?? 0));
}
