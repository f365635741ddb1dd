// A photo's file in a worker: upright pixels for the matcher, and small JPEGs to be shown.

import { checkHeader, problemOfFormat, problemOfSize } from "./headers.js";

const CODED_SIDE = 1120; // pixels that the matcher is given: four times the largest it makes of them
const SHOWN_SIDE = 640; // of what a page shows and keeps
/**
 * @typedef {[number, number, number, number]} Box left, top, right and bottom
 * @typedef {{head: ArrayBuffer, bitmap: ImageBitmap | null}} Opened a file that no worker can read
 */

/**
 * A part of a picture, no larger than asked, on white where it is transparent.
 * @param {CanvasImageSource} source @param {Box} box in its pixels @param {number} longest
 */
function drawn(source, [left, top, right, bottom], longest) {
  const sides = [right - left, bottom - top], scale = Math.min(1, longest / Math.max(...sides));
  const [width, height] = sides.map((side) => Math.max(1, Math.round(side * scale)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("cannot be drawn by this browser.");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, left, top, right - left, bottom - top, 0, 0, width, height);
  return context;
}

/** @param {CanvasImageSource} source @param {Box} box @returns {Promise<Blob>} a small JPEG */
function jpegOf(source, box) {
  return drawn(source, box, SHOWN_SIDE).canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
}

/**
 * A photo, or the part of it in a box, from 0 to 1: its pixels, its height and width, and JPEGs of
 * the part and of the whole. An Error whose message goes on from the file's name if it is none.
 * @param {[file: Blob, box?: Box | null, opened?: Opened]} given
 */
export const decode = (...given) => // one at a time where browsers have locks: 12 megapixels take 50 MB
  navigator.locks?.request("decode", () => decodeAlone(...given)) ?? decodeAlone(...given);

/** @param {Blob} file @param {Box | null} [box] @param {Opened} [opened] */
async function decodeAlone(file, box, opened) {
  const format = await checkHeader(file, opened?.head);
  const bitmap = opened ? opened.bitmap : await createImageBitmap(file).catch(() => null);
  if (!bitmap) throw new Error(problemOfFormat(format));
  try {
    const sides = [bitmap.width, bitmap.height];
    const part = /** @type {Box} */ ((box ?? [0, 0, 1, 1]).map((at, n) => Math.round(at * sides[n % 2])));
    const [across, down] = [part[2] - part[0], part[3] - part[1]];
    const problem = problemOfSize(across, down);
    if (problem) throw new Error(problem);
    const coded = drawn(bitmap, part, CODED_SIDE), { width, height } = coded.canvas;
    const shown = await jpegOf(coded.canvas, [0, 0, width, height]);
    const whole = box ? await jpegOf(bitmap, [0, 0, bitmap.width, bitmap.height]) : shown;
    const pixels = coded.getImageData(0, 0, width, height);
    coded.canvas.width = 0; // its memory is free at once
    return { pixels, size: [down, across], shown, whole };
  } finally {
    bitmap.close();
  }
}
