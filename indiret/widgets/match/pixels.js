// Pixels as the core takes them: grey, and smaller, to the last bit as Pillow makes them.

const GREY_BITS = 16; // of the weights of red, green and blue
const WEIGHT_BITS = 22; // of the weights of the pixels that a smaller one is made of

/**
 * @typedef {{width: number, height: number, data: Uint8ClampedArray | Uint8Array}} Picture RGBA
 * @typedef {{width: number, height: number, data: Uint8Array}} Grey
 */

/** As `Image.convert("L")`; what is transparent is not looked at. @param {Picture} picture @returns {Grey} */
export function toGrey({ width, height, data }) {
  if (!(width > 0 && height > 0) || data.length !== 4 * width * height) {
    throw new TypeError(`A picture of ${width} × ${height} pixels has ${4 * width * height} bytes of ` +
      `red, green, blue and alpha; ${data.length} were given.`);
  }
  const grey = new Uint8Array(width * height);
  for (let at = 0; at < grey.length; at++) {
    const colour = 4 * at;
    grey[at] = (19595 * data[colour] + 38470 * data[colour + 1] + 7471 * data[colour + 2] + 0x8000) >>> GREY_BITS;
  }
  return { width, height, data: grey };
}

/**
 * As `Image.resize(size, BILINEAR)`: a triangle as wide as the step along the rows, then along the
 * columns; the other way round where a picture is more than twice as tall as wide, as Pillow 13 does.
 * @param {Grey} picture @param {number} width @param {number} height
 * @returns {Grey}
 */
export function resize(picture, width, height) {
  return picture.height > 2 * picture.width ? narrowed(lowered(picture, height), width)
    : lowered(narrowed(picture, width), height);
}

/**
 * The pixels that each smaller one is made of, `first[at] … first[at] + counts[at]`, and their weights.
 * @param {number} from pixels @param {number} to pixels
 */
function triangles(from, to) {
  const scale = from / to, wide = Math.max(scale, 1), most = 2 * Math.ceil(wide) + 1;
  const first = new Int32Array(to), counts = new Int32Array(to), weights = new Int32Array(to * most);
  for (let at = 0; at < to; at++) {
    const centre = (at + 0.5) * scale;
    first[at] = Math.max(0, Math.trunc(centre - wide + 0.5));
    counts[at] = Math.min(from, Math.trunc(centre + wide + 0.5)) - first[at];
    const shares = Array.from({ length: counts[at] },
      (_, step) => Math.max(0, 1 - Math.abs((step + first[at] - centre + 0.5) / wide)));
    const sum = shares.reduce((a, b) => a + b, 0);
    shares.forEach((share, step) => {
      weights[at * most + step] = Math.trunc(0.5 + (share / sum) * 2 ** WEIGHT_BITS);
    });
  }
  return { first, counts, weights, most };
}

/** @param {Grey} picture @param {number} to @returns {Grey} */
function narrowed(picture, to) {
  const { width, height, data } = picture;
  if (width === to) return picture;
  const { first, counts, weights, most } = triangles(width, to);
  const made = new Uint8Array(height * to);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < to; x++) {
      const start = y * width + first[x], count = counts[x], of = x * most;
      let sum = 1 << (WEIGHT_BITS - 1);
      for (let step = 0; step < count; step++) sum = (sum + Math.imul(weights[of + step], data[start + step])) | 0;
      made[y * to + x] = sum >> WEIGHT_BITS;
    }
  }
  return { width: to, height, data: made };
}

/** @param {Grey} picture @param {number} to @returns {Grey} */
function lowered(picture, to) {
  const { width, height, data } = picture;
  if (height === to) return picture;
  const { first, counts, weights, most } = triangles(height, to);
  const made = new Uint8Array(to * width), sums = new Int32Array(width);
  for (let y = 0; y < to; y++) {
    sums.fill(1 << (WEIGHT_BITS - 1));
    for (let step = 0; step < counts[y]; step++) {
      const weight = weights[y * most + step], start = (first[y] + step) * width;
      for (let x = 0; x < width; x++) sums[x] += Math.imul(weight, data[start + x]);
    }
    for (let x = 0; x < width; x++) made[y * width + x] = sums[x] >> WEIGHT_BITS;
  }
  return { width, height: to, data: made };
}
