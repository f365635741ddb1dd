// Web Workers that match: made from a blob, so that a page on the disk has them, too.

import { rankBy } from "./ranking.js";

/**
 * @typedef {import("./features.js").Features} Features
 * @typedef {{task: string, given: any[], resolve: (result: any) => void, reject: (error: Error) => void}} Job
 */

/**
 * Workers that take tasks one at a time, the first that is free the first that waits. Whatever waits
 * or runs when the pool is cancelled rejects with an AbortError.
 * @param {string} source of the workers, `worker_source` of Python
 * @param {import("./data.js").MatcherData} data @param {number} size workers
 */
export function createWorkerPool(source, data, size) {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  /** @type {Job[]} */
  let waiting = [];
  const lanes = Array.from({ length: size }, () => startLane(address, data, next));

  function next() {
    for (const lane of lanes) {
      while (!lane.busy && waiting.length) lane.take(/** @type {Job} */ (waiting.shift()));
    }
  }
  /** @param {string} task @param {any[]} given @returns {Promise<any>} */
  const ask = (task, given) => new Promise((resolve, reject) => {
    waiting.push({ task, given, resolve, reject });
    next();
  });
  const stopped = () => new DOMException("The matching was cancelled.", "AbortError");
  let controller = new AbortController();

  const pool = {
    /**
     * What `decode` makes of a file, but its features for its pixels.
     * @param {Blob} file
     * @param {{query?: boolean, box?: import("./decode.js").Box | null}} [how] box: the part that is wanted
     * @returns {Promise<{features: Features, size: [number, number], shown: Blob, whole: Blob}>}
     */
    read: (file, how = {}) => ask("read", [file, how]).catch(async (error) => {
      if (error.name !== "NotReadableError") throw error; // WebKit: no worker of a page on the disk reads files
      const head = await file.slice(0, 1 << 20).arrayBuffer(), bitmap = await createImageBitmap(file).catch(() => null);
      return ask("read", [file, { ...how, opened: { head, bitmap } }]).finally(() => bitmap?.close());
    }),

    /** As `explain` of the matcher. @param {Features} query @param {Features} target */
    explain: (query, target) => ask("explain", [query, target]),

    /** Photos ranked for a query by all workers at once, see `rankBy`; `load` gives features their codes.
     * @param {Features} query @param {Features[]} targets
     * @param {import("./ranking.js").RankOptions & {load?: (one: Features) => any}} [options] */
    rank: (query, targets, { onProgress, signal = controller.signal, load = (one) => one } = {}) => rankBy({
      match: async (...pair) => ask("match", await Promise.all(pair.map(load))),
      score: async (one, other, ...planes) => ask("score", [await load(one), await load(other), ...planes]),
    }, query, targets, { onProgress, signal }, 2 * size), // one waits for each worker

    cancel() {
      controller.abort(stopped());
      controller = new AbortController();
      const dropped = waiting;
      waiting = [];
      dropped.forEach(({ reject }) => reject(stopped()));
      lanes.forEach((lane) => lane.drop(stopped()));
    },
  };
  return pool;
}

/** One worker and the job that it has.
 * @param {string} address @param {import("./data.js").MatcherData} data @param {() => void} whenFree
 */
function startLane(address, data, whenFree) {
  const worker = new Worker(address);
  /** @type {Job | undefined} */
  let job;
  /** @type {Error | undefined} */
  let failure;
  const finish = (/** @type {(job: Job) => void} */ settle) => {
    const done = job;
    job = undefined;
    lane.busy = false;
    if (done) settle(done);
    whenFree();
  };
  worker.onmessage = ({ data: { result, error } }) => finish(({ resolve, reject }) =>
    (error ? reject(Object.assign(new Error(error.message), { name: error.name })) : resolve(result)));
  worker.onerror = ({ message }) => {
    const reason = failure = new Error(`A worker of this page failed: ${message}.`);
    finish(({ reject }) => reject(reason));
  };
  const lane = {
    busy: true, // with the constants, at first
    /** @param {Job} next */
    take(next) {
      const { task, given } = next;
      try {
        if (failure) throw failure;
        const sent = given.map((one) => (one?.codes && !one.spare ? { ...one, codes: one.codes.slice() } : one));
        worker.postMessage({ task, given: sent }, sent.flatMap((one) => one?.codes?.buffer ?? []));
        job = next;
        lane.busy = true;
      } catch (error) { // of a worker that failed, or features whose codes were moved elsewhere
        next.reject(/** @type {Error} */ (error));
      }
    },
    /** The worker ends what it does, and nobody waits for that. @param {Error} reason */
    drop(reason) {
      job?.reject(reason);
      job = undefined;
    },
  };
  worker.postMessage({ task: "start", given: [data] });
  return lane;
}
