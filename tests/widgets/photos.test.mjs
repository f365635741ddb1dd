// Headers, sentences and spreadsheet cells of the page Your own photos: `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { checkHeader, problemOfFormat, problemOfSize, readHeader } from "../../indiret/widgets/match/headers.js";
import { answerWords, csv, csvCell, isFound, percent } from "../../indiret/widgets/photos/words.js";

Object.assign(globalThis, { FOUND: 0.5, NOT_NEGLIGIBLE: 0.05, STANDS_OUT: 7.5, LEAST_COMPANY: 20, LITTLE_STRUCTURE: 0.2 });

const bytes = (...parts) => Uint8Array.from(
  [...parts.flatMap((part) => (typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : part)), ...Array(40).fill(0)]);

test("a header tells the format, and the size where it stands in it", () => {
  const cases = [
    [bytes([0x89], "PNG\r\n\x1a\n", [0, 0, 0, 13], "IHDR", [0, 0, 1, 2, 0, 0, 3, 4]), { format: "PNG", width: 258, height: 772 }],
    [bytes("GIF89a", [2, 1, 4, 3]), { format: "GIF", width: 258, height: 772 }],
    [bytes("RIFF", [0, 0, 0, 0], "WEBPVP8X", [10, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0], [3, 3, 0]), { format: "WebP", width: 258, height: 772 }],
    [bytes([0, 0, 0, 24], "ftypheic"), { format: "HEIC" }],
    [bytes([0, 0, 0, 24], "ftypavif"), { format: "AVIF" }],
    [bytes("II*\0"), { format: "TIFF" }],
    [bytes("MM\0*"), { format: "TIFF" }],
    [bytes([0xff, 0xd8, 0xff, 0xe0, 0, 4, 9, 9, 0xff, 0xff, 0xc2, 0, 17, 8, 3, 4, 1, 2]), { format: "JPEG", width: 258, height: 772 }],
    [bytes([0xff, 0xd8, 0xff, 0xe0, 0, 4, 9, 9]), { format: "JPEG" }],
    [bytes("plain text"), { format: null }],
    [new Uint8Array(3), { format: null }],
  ];
  for (const [given, expected] of cases) assert.deepEqual(readHeader(given), expected);
});

test("no bytes make the reader of headers fail or go on for ever", () => {
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) & 255;
  for (let n = 0; n < 2000; n++) {
    const noise = Uint8Array.from({ length: 8 + (n % 90) }, random);
    noise.set([0xff, 0xd8, 0xff, 0xff].slice(0, n % 5));
    readHeader(noise);
  }
});

test("what cannot be taken is told in a sentence", async () => {
  assert.equal(problemOfSize(4000, 3000), null);
  assert.match(problemOfSize(20_000, 10_000), /200 megapixels/);
  assert.match(problemOfSize(15, 100), /each side needs 16/);
  assert.match(problemOfSize(2001, 100), /20 times/);
  for (const format of ["HEIC", "TIFF", "JPEG", null]) assert.match(problemOfFormat(format), /^is .*\.$/);
  await assert.rejects(checkHeader(new Blob([])), /^Error: is empty\.$/);
  assert.equal(await checkHeader(new Blob(["plain text"])), null);
});

test("a verdict follows probability, and structure before it", () => {
  const titles = [0.95, 0.6, 0.2, 0.01].map((probability) => answerWords({ probability, structure: [0.5, 0.5] }).title);
  assert.equal(new Set(titles).size, 4);
  assert.equal(answerWords({ probability: 0.95, structure: [0.5, 0.1] }).verdict, "unknown");
  assert.deepEqual([1, 0.9949, 0.5, 0].map(percent), ["over 99 %", "over 99 %", "50 %", "under 1 %"]);
});

test("an answer is found if it is likely, or stands out from a folder", () => {
  const folder = (probability, score, others) => [{ probability, score, judged: true },
    ...Array.from({ length: others }, (_, at) => ({ probability: 0, score: -(at % 5), judged: true })),
    { probability: null, score: -1e6, judged: false }];
  assert.ok(isFound(folder(0.5, 1, 2)));
  assert.ok(!isFound(folder(0.4, 20, 2))); // too few to stand out from
  assert.ok(isFound(folder(0.05, 9.2, 20)) && !isFound(folder(0.05, 9, 20))); // 7.5 · 1.4826 · 1 above −2
  assert.ok(!isFound(folder(0.04, 20, 20)));
});

test("no cell is a formula, and every cell is read again as it was", () => {
  for (const text of ["=1+2", "+1", "-1", "@a", "\t=1", " =1", "＝1"]) assert.equal(csvCell(text).replace(/^"/, "")[0], "'");
  assert.equal(csvCell('a "b", c'), '"a ""b"", c"');
  assert.equal(csv([["a", -1.5], ["b;", 2]]), 'a,-1.5\r\n"b;",2\r\n');
});
