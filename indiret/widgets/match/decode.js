// A photo's file as pixels, in a worker, so that the page's own thread goes on.

const LONG_SIDE = 1120; // pixels of a decoded photo, four times the largest size that is matched

/**
 * The picture, turned upright, or the part of it in a box: left, top, right and bottom from 0 to 1.
 * @param {Blob} file
 * @param {[number, number, number, number]} [box]
 * @returns {Promise<import("./pixels.js").Picture>}
 */
export async function decode(file, [left, top, right, bottom] = [0, 0, 1, 1]) {
  const whole = await createImageBitmap(file).catch(() => {
    throw new TypeError("This file is no picture that the browser can read; give JPEG, PNG or WebP.");
  });
  const [x, endX] = [left, right].map((at) => Math.round(at * whole.width));
  const [y, endY] = [top, bottom].map((at) => Math.round(at * whole.height));
  const across = Math.max(1, endX - x), down = Math.max(1, endY - y);
  const scale = Math.min(1, LONG_SIDE / Math.max(across, down));
  const [width, height] = [across, down].map((side) => Math.max(1, Math.round(scale * side)));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser draws no pictures in workers.");
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, x, y, across, down, 0, 0, width, height);
  whole.close();
  return context.getImageData(0, 0, width, height);
}
