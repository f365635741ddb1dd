// What a worker does: `pool.js` sends it tasks, one at a time, and it answers with results or errors.

import { decode } from "./decode.js";
import { createMatcher } from "./matcher.js";
import { release } from "./memory.js";

/** @type {import("./matcher.js").Matcher} */
let matcher;

/** @type {Record<string, (...given: any[]) => any>} */
const tasks = {
  start: (data) => { matcher = createMatcher(data); },
  read: async (file, { query, box, opened }) => {
    const { pixels, ...decoded } = await decode(file, box, opened);
    const features = matcher.encode(pixels, { query });
    release(pixels.data);
    return { features, ...decoded };
  },
  match: (source, searched) => matcher.match(source, searched),
  score: (query, target, forward, backward) => matcher.score(query, target, forward, backward),
  explain: (query, target) => matcher.explain(query, target),
};

self.onmessage = async ({ data: { task, given } }) => {
  try {
    const result = await tasks[task](...given);
    self.postMessage({ result }, { transfer: task === "read" ? [result.features.codes.buffer] : [] });
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error);
    self.postMessage({ error: { name, message } });
  }
  given.forEach((/** @type {any} */ one) => release(one?.codes));
};
