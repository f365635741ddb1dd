// What the matcher in JavaScript says of pictures, for tests that compare it with Python's.
// `node match_pairs.mjs FOLDER` reads constants, pairs.json and pictures.rgba, and writes found.json.

import { readFileSync, writeFileSync } from "node:fs";
import { inflateSync } from "node:zlib";

import { matcherData } from "../../indiret/widgets/match/data.js";
import { createMatcher } from "../../indiret/widgets/match/matcher.js";
import { resize, toGrey } from "../../indiret/widgets/match/pixels.js";

/** As `unpack` of shared.js. */
function unpack(bytes) {
  const whole = inflateSync(bytes);
  let at = 4 + whole.readUInt32LE(0);
  const header = JSON.parse(whole.subarray(4, at).toString());
  return { header, take: (length) => new Uint8Array(whole.subarray((at += length) - length, at)) };
}

const folder = process.argv[2];
const matcher = createMatcher(matcherData(unpack(readFileSync(`${folder}/constants`))));
const { pictures, pairs, sizes } = JSON.parse(readFileSync(`${folder}/pairs.json`, "utf-8"));
const bytes = readFileSync(`${folder}/pictures.rgba`);
let start = 0;
const rgba = pictures.map(([height, width]) => {
  const data = bytes.subarray(start, (start += 4 * height * width));
  return { width, height, data };
});
const encoded = new Map();
const encode = (picture, query) => {
  const key = `${picture} ${query}`;
  if (!encoded.has(key)) encoded.set(key, matcher.encode(rgba[picture], { query }));
  return encoded.get(key);
};
const verdicts = pairs.map(([one, other]) => {
  const query = encode(one, true), target = encode(other, false);
  const { values, P, Q, ...verdict } = matcher.explain(query, target);
  return { ...verdict, background: target.background, values: [...values], P: [...P.values], Q: [...Q.values] };
});
const resized = sizes.map(([width, height]) => [...resize(toGrey(rgba[0]), width, height).data]);
writeFileSync(`${folder}/found.json`, JSON.stringify({ verdicts, resized }));
