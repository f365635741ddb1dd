// The plane vote and its network on photos' pixels: what a page asks of them.
// A stub for now: the shapes of all answers are right, their numbers are made up.

/**
 * @typedef {{shape: [number, number], codes: Int16Array, structure: number, background: number}} Features
 *   What is kept of a photo: transferable (`codes.buffer`), and may be stored.
 * @typedef {{rows: number, columns: number, values: Float32Array}} EvidenceMap
 */

const made = (a, b) => ((a.codes[0] * 7919 + b.codes[0] * 104729) % 997) / 997;

/** @param {object} data constants, from `matcherData` */
export function createMatcher(data) {
  const grid = ([height, width]) => {
    const scale = 14 / Math.max(height, width);
    return [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
  };
  const matcher = {
    /** @returns {Features} of {width, height, data: RGBA}; a query needs no background score */
    encode({ width, height, data: pixels }, { query = false } = {}) {
      return { shape: [height, width], codes: Int16Array.of(pixels[0] + 3 * pixels[4 * (pixels.length >> 3)]),
        structure: 0.6, background: query ? NaN : 1.5 };
    },
    score(query, target) {
      const margin = 12 * made(query, target) - 6;
      return { score: margin + 2, margin, probability: 1 / (1 + Math.exp(-margin)),
        structure: [query.structure, target.structure],
        plane: { matrix: [[1, 0], [0, 1]], offset: [0, 0], close: false, level: 3 } };
    },
    /** P: evidence map of the target, Q: of the query; pair (i, j) of the target, (k, l) of the query. */
    explain(query, target, { top = 60 } = {}) {
      const [[I, J], [K, L]] = [grid(target.shape), grid(query.shape)];
      const bump = (rows, columns) => ({ rows, columns, values: Float32Array.from({ length: rows * columns },
        (_, at) => Math.exp(-(((Math.floor(at / columns) - rows / 2) ** 2 + (at % columns - columns / 2) ** 2) / 12))) });
      const pairs = Array.from({ length: Math.min(top, K * L) }, (_, at) => {
        const [k, l] = [Math.floor(at / L), at % L];
        return { i: Math.floor(k / K * I), j: Math.floor(l / L * J), k, l, value: 1 - at / 100 };
      });
      const points = ([y, x]) => [0.1 + 0.8 * y, 0.1 + 0.8 * x];
      return { ...matcher.score(query, target), P: bump(I, J), Q: bump(K, L), pairs, points,
        frame: [[0, 0], [0, 1], [1, 1], [1, 0]].map(points) };
    },
    /** Best first; `onProgress({done, total, hits})` now and then, `signal.aborted` stops it. */
    async rank(query, targets, { onProgress, signal } = {}) {
      const hits = [];
      for (const [index, target] of targets.entries()) {
        signal?.throwIfAborted();
        const { margin: score, probability } = matcher.score(query, target);
        hits.push({ index, score, probability, judged: true });
        onProgress?.({ done: index + 1, total: targets.length, hits: hits.toSorted((a, b) => b.score - a.score) });
      }
      return hits.sort((a, b) => b.score - a.score || a.index - b.index);
    },
  };
  return matcher;
}
