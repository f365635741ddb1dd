// The matcher's parts beside slow oracles, on node's own runner: `node --test tests/widgets`.

import assert from "node:assert/strict";
import test from "node:test";

import { inverse, roundHalfEven, transfer } from "../../indiret/widgets/match/arithmetic.js";
import { splat } from "../../indiret/widgets/match/evidence.js";
import { shareFrame } from "../../indiret/widgets/match/frames.js";
import { refinePlane, samplePooled } from "../../indiret/widgets/match/geometry.js";
import { cellGrid } from "../../indiret/widgets/match/gradients.js";
import { resize, toGrey } from "../../indiret/widgets/match/pixels.js";
import { DEPTH, UNIT, cosinesOf, eachAbove, interleave, multiply, templateBlocks } from "../../indiret/widgets/match/products.js";
import { rankBy } from "../../indiret/widgets/match/ranking.js";
import { bestPlane } from "../../indiret/widgets/match/voting.js";

/** Numbers from −1 to 1 that are the same in every run. */
function noise(seed) {
  let state = seed;
  return () => ((state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 31) - 1;
}

/** A grid of patches of length 1. */
function patchesOf(rows, columns, seed = 1) {
  const next = noise(seed), codes = new Int16Array(rows * columns * DEPTH);
  for (let patch = 0; patch < rows * columns; patch++) {
    const values = Array.from({ length: DEPTH }, next), length = Math.hypot(...values);
    values.forEach((value, d) => { codes[patch * DEPTH + d] = Math.round((UNIT * value) / length); });
  }
  return { rows, columns, codes };
}

const cosine = (one, other, a, b) => Array.from({ length: DEPTH },
  (_, d) => one.codes[a * DEPTH + d] * other.codes[b * DEPTH + d]).reduce((x, y) => x + y) / UNIT ** 2;

const near = (one, other, by = 1e-9) => assert.ok(Math.abs(one - other) <= by, `${one} is not ${other}`);

test("products of blocks are products", () => {
  for (const [m, n, depth] of [[1, 1, 1], [3, 5, 7], [4, 8, 64]]) {
    const next = noise(m), left = Array.from({ length: m * depth }, next), right = Array.from({ length: n * depth }, next);
    const { values, columns } = multiply(interleave(left, m, depth, 2), interleave(right, n, depth, 4), m, n, depth);
    for (let a = 0; a < m; a++) for (let b = 0; b < n; b++) {
      const wanted = Array.from({ length: depth }, (_, d) => left[a * depth + d] * right[b * depth + d]).reduce((x, y) => x + y);
      near(values[a * columns + b], wanted, 1e-12);
    }
  }
});

test("two products in one number are as good as one by one", () => {
  const target = patchesOf(3, 5), template = patchesOf(2, 2, 7);
  template.codes.set(target.codes.subarray(4 * DEPTH, 5 * DEPTH)); // a cosine of 1
  const found = cosinesOf(target, template);
  assert.equal(found.length, 15 * 4);
  found.forEach((value, at) => near(value, cosine(target, template, Math.floor(at / 4), at % 4), 4e-6));
});

test("every product above a threshold is found, and no other", () => {
  const target = patchesOf(29, 31), template = patchesOf(3, 5, 7);
  template.codes.set(target.codes.subarray(4 * DEPTH, 5 * DEPTH)); // a cosine of 1, and beside it
  target.codes.set(target.codes.subarray(4 * DEPTH, 5 * DEPTH).map((code) => -code), 3 * DEPTH); // one of −1
  target.codes.fill(UNIT / 8, 5 * DEPTH, 6 * DEPTH); // all that is rounded as far as can be
  const least = 0.3 * UNIT ** 2, found = new Map();
  eachAbove(target, templateBlocks(template), least, (patch, at, product) => found.set(15 * patch + at, product));
  let above = 0;
  for (let patch = 0; patch < 29 * 31; patch++) for (let at = 0; at < 15; at++) {
    const product = Math.round(cosine(target, template, patch, at) * UNIT ** 2);
    if (product > least) above++;
    assert.equal(found.get(15 * patch + at), product > least ? product : undefined);
  }
  assert.ok(found.size === above && above > 20);
});

test("the best plane is that of the slowest count", () => {
  const template = patchesOf(3, 4, 3), target = patchesOf(9, 11, 5), { rows: I, columns: J } = target;
  for (let k = 0; k < 3; k++) for (let l = 0; l < 4; l++) { // planted at (i, j) = 2 (k, l) + (2, 1)
    const from = (4 * k + l) * DEPTH;
    target.codes.set(template.codes.subarray(from, from + DEPTH), ((2 * k + 2) * J + 2 * l + 1) * DEPTH);
  }
  const pooled = (i, j, patch) => {
    let highest = 0.3;
    for (let a = Math.max(0, 2 * i - 1); a <= Math.min(I - 1, 2 * i + 1); a++)
      for (let b = Math.max(0, 2 * j - 1); b <= Math.min(J - 1, 2 * j + 1); b++)
        highest = Math.max(highest, cosine(target, template, a * J + b, patch));
    return highest - 0.3;
  };
  const response = (i, j, patch) => {
    if (i < 0 || i >= 5 || j < 0 || j >= 6) return 0;
    const mean = Array.from({ length: 12 }, (_, p) => pooled(i, j, p)).reduce((x, y) => x + y) / 12;
    return pooled(i, j, patch) / Math.sqrt(mean + 0.001);
  };
  const votes = [];
  for (let a = 0; a < 5 + 2 - 2; a++) for (let b = 0; b < 6 + 4 - 3; b++) {
    let sum = 0;
    for (let k = 0; k < 3; k++) for (let l = 0; l < 4; l++) sum += response(a - 1 + k, b - 2 + l, 4 * k + l);
    votes.push(sum / 12);
  }
  const mean = votes.reduce((x, y) => x + y) / votes.length, highest = Math.max(...votes);
  const deviation = Math.sqrt(votes.reduce((sum, vote) => sum + (vote - mean) ** 2, 0) / (votes.length - 1));
  const found = bestPlane(templateBlocks(template), [target]);
  assert.equal(found.translation, votes.indexOf(highest));
  near(found.votes, highest, 1e-5);
  near(found.zScore, (highest - mean) / deviation, 1e-3);
});

test("a plane is fitted to what lies between patches", () => {
  const [rows, columns, K, L] = [20, 24, 7, 9], values = new Float32Array(rows * columns * K * L);
  const truth = { matrix: [[2, 0.1], [-0.05, 2.1]], offset: [2.3, 1.6], votes: 0 };
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) for (let patch = 0; patch < K * L; patch++) {
    const [k, l] = [Math.floor(patch / L), patch % L];
    const far = Math.hypot(i - 2 * k - 0.1 * l - 2.3, j + 0.05 * k - 2.1 * l - 1.6);
    values[(i * columns + j) * K * L + patch] = Math.max(0, 1 - 0.35 * far);
  }
  const cosines = { values, rows, columns, K, L };
  const fitted = refinePlane(cosines, { matrix: [[2, 0], [0, 2]], offset: [3, 2], votes: 0 });
  fitted.matrix.flat().forEach((value, at) => near(value, truth.matrix.flat()[at], 0.03));
  const { responses } = samplePooled(cosines, truth);
  assert.ok(responses.every((response) => response > 0.3));
});

test("a resized picture keeps its mean, and an equal size every pixel", () => {
  const next = noise(2), data = Uint8Array.from({ length: 60 * 90 }, () => 128 + 100 * next());
  const small = resize({ width: 90, height: 60, data }, 31, 7).data, mean = (of) => of.reduce((x, y) => x + y) / of.length;
  assert.equal(small.length, 31 * 7);
  near(mean(small), mean(data), 2);
  assert.deepEqual(resize({ width: 90, height: 60, data }, 90, 60).data, data);
  assert.throws(() => toGrey({ width: 2, height: 2, data: new Uint8Array(15) }), /16 bytes of red, green, blue and alpha; 15/);
});

test("halves are rounded and grids counted as in Python", () => {
  assert.deepEqual([0.5, 1.5, 2.5, -0.5, -1.5, 2.4].map(roundHalfEven).map(Math.abs), [0, 2, 2, 0, 2, 2]);
  assert.deepEqual(cellGrid([300, 400], 112), [21, 28]);
  assert.deepEqual(cellGrid([10, 4000], 112), [4, 28]);
});

test("a frame is shared if the middles are not", () => {
  const bars = patchesOf(10, 6), pages = patchesOf(1, 2, 9);
  const filled = (page) => {
    const codes = bars.codes.slice();
    for (let patch = 12; patch < 48; patch++) codes.set(pages.codes.subarray(page * DEPTH, (page + 1) * DEPTH), patch * DEPTH);
    return { ...bars, codes };
  };
  assert.ok(shareFrame(filled(0), filled(1)));
  assert.ok(!shareFrame(filled(0), filled(0)));
  assert.ok(!shareFrame(filled(0), patchesOf(10, 6, 4)));
});

test("evidence goes to the nearest patches", () => {
  const forward = { own: [[0.5, 0.5]], matched: [[0.5, 0.25]], support: [1] };
  const { values, P, Q } = splat(forward, { own: [], matched: [], support: [] }, [140, 280], [20, 20]);
  assert.deepEqual([P.rows, P.columns, Q.rows, Q.columns], [7, 14, 14, 14]);
  near(values.reduce((x, y) => x + y), 1, 1e-6);
  near(values[(3 * 14 + 3) * 196 + 6 * 14 + 6], 0.25, 1e-7); // the query's place is between four patches
});

test("what one affine map moves, its inverse moves back", () => {
  const affine = [[0.8, 0.1, 0.05], [-0.2, 1.1, 0.3]];
  transfer(inverse(affine), transfer(affine, [0.3, 0.9])).forEach((at, axis) => near(at, [0.3, 0.9][axis]));
  assert.ok(inverse([[1, 1, 0], [1, 1, 0]]).flat().every(Number.isNaN));
});

/** Steps that know how alike every photo is: `first` in the query's votes, `last` for the network. */
const stepsOf = (first, last) => ({
  match: async (source, searched) => ({ score: first[searched.at ?? source.at] }),
  score: async (query, { at }) => ({ margin: last[at], probability: 0.5 }),
});
const photos = (count) => Array.from({ length: count }, (_, at) => ({ at, background: 1 }));

test("of 100 photos 50 are judged, and the others keep their order below", async () => {
  const first = Array.from({ length: 100 }, (_, at) => 100 - at), last = first.map((score) => -score);
  const seen = [];
  const hits = await rankBy(stepsOf(first, last), {}, photos(100), { onProgress: (step) => seen.push(step) }, 3);
  assert.deepEqual(hits.map(({ index }) => index), [...Array(50).keys()].reverse().concat([...Array(50).keys()].map((at) => at + 50)));
  assert.deepEqual(hits.map(({ judged }) => judged), Array.from({ length: 100 }, (_, at) => at < 50));
  assert.ok(hits[50].score <= -1e6 && hits[50].probability === null && hits[0].probability === 0.5);
  assert.deepEqual(seen.map(({ done }) => done), Array.from({ length: 220 }, (_, at) => at + 1));
  assert.equal(seen[0].total, 220);
  assert.equal(seen[5].hits.length, 6); // whatever has a score so far
});

test("twenty photos are judged however few there are", async () => {
  assert.ok((await rankBy(stepsOf(Array(25).fill(1), Array(25).fill(2)), {}, photos(25))).filter(({ judged }) => judged).length === 20);
  assert.deepEqual(await rankBy(stepsOf([], []), {}, []), []);
});

test("ranking ends when it is told to", async () => {
  const controller = new AbortController();
  const onProgress = ({ done }) => { if (done === 3) controller.abort(); };
  await assert.rejects(rankBy(stepsOf(Array(9).fill(1), Array(9).fill(1)), {}, photos(9), { onProgress, signal: controller.signal }),
    { name: "AbortError" });
});
