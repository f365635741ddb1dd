// A worker that decodes photos: upright pixels for the matcher, and a small JPEG to be shown.

import { checkHeader, problemOfFormat, problemOfSize } from "./headers.js";

const CODED_SIDE = 1120; // pixels that the matcher is given: four times the largest it makes of them
const SHOWN_SIDE = 640; // of what the page shows and keeps

/** As large as asked, of a part of it, on white where it is transparent. */
function drawn(source, [x, y, width, height], longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const size = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = new OffscreenCanvas(...size).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, ...size);
  context.drawImage(source, x, y, width, height, 0, 0, ...size);
  return context;
}

/** → a small JPEG. */
function jpegOf(source, part) {
  return drawn(source, part, SHOWN_SIDE).canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
}

/** A file, or the part of it in a box [x1, y1, x2, y2] from 0 to 1. */
async function decode({ file, box }) {
  const format = await checkHeader(file);
  const bitmap = await createImageBitmap(file).catch(() => { throw new Error(problemOfFormat(format)); });
  try {
    const sides = [bitmap.width, bitmap.height];
    const [left, top, right, bottom] = (box ?? [0, 0, 1, 1]).map((at, n) => Math.round(at * sides[n % 2]));
    const [across, down] = [right - left, bottom - top];
    const problem = problemOfSize(across, down);
    if (problem) throw new Error(problem);
    const coded = drawn(bitmap, [left, top, across, down], CODED_SIDE), { width, height } = coded.canvas;
    const shown = await jpegOf(coded.canvas, [0, 0, width, height]);
    const { data } = coded.getImageData(0, 0, width, height);
    const whole = box ? await jpegOf(bitmap, [0, 0, ...sides]) : shown;
    return { size: [down, across], shown, whole, pixels: { width, height, data } };
  } finally {
    bitmap.close();
  }
}

onmessage = async ({ data: { number, ...asked } }) => {
  try {
    const answer = await decode(asked);
    postMessage({ number, answer }, [answer.pixels.data.buffer]);
  } catch (error) {
    postMessage({ number, problem: error.message });
  }
};
