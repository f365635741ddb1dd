// Web Workers that match: made from a blob, so that a page on the disk has them, too.
// A stub for now: it works in the page's own thread.

import { createMatcher } from "./matcher.js";

/**
 * @param {string} source of the workers, from Python's `worker_source`
 * @param {object} data constants, from `matcherData`
 * @param {number} size workers
 */
export function createWorkerPool(source, data, size) {
  const matcher = createMatcher(data);
  let controller = new AbortController();
  return {
    encode: async (picture, options) => matcher.encode(picture, options), // its pixels are transferred: gone here
    score: async (query, target) => matcher.score(query, target),
    explain: async (query, target, options) => matcher.explain(query, target, options),
    rank: async (query, targets, { onProgress } = {}) =>
      matcher.rank(query, targets, { onProgress, signal: controller.signal }),
    /** Whatever waits or runs rejects with an AbortError; the pool works on. */
    cancel() { controller.abort(); controller = new AbortController(); },
    close() { this.cancel(); },
  };
}
