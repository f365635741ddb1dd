// What a file says of itself before it is decoded: its format and size, and one sentence where no
// photo can be made of it. The limits are those of indiret.images.

export const MAX_PIXELS = 64e6; // 256 MB once decoded
export const MAX_BYTES = 200e6; // of a file
export const MIN_SIDE = 16; // fewer pixels hold no patches
export const MAX_ASPECT = 20; // longer side over shorter
const HEADER_BYTES = 1 << 20; // of a JPEG, whose size may stand behind large previews

/**
 * What a file says of its photo; no width and height where they are not told.
 * @typedef {{format: string | null, width?: number, height?: number}} Header
 */

const text = (/** @type {Uint8Array} */ bytes, /** @type {number} */ from, /** @type {number} */ length) =>
  String.fromCharCode(...bytes.subarray(from, from + length));

/** @param {Uint8Array} bytes the first of a file @returns {Header} */
export function readHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 30) return { format: null };
  if (text(bytes, 1, 3) === "PNG") {
    return { format: "PNG", width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (text(bytes, 0, 3) === "GIF") {
    return { format: "GIF", width: view.getUint16(6, true), height: view.getUint16(8, true) };
  }
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 8) === "WEBPVP8X") {
    const side = (/** @type {number} */ at) => 1 + view.getUint16(at, true) + (bytes[at + 2] << 16);
    return { format: "WebP", width: side(24), height: side(27) };
  }
  if (text(bytes, 4, 4) === "ftyp") {
    return { format: text(bytes, 8, 4).startsWith("avi") ? "AVIF" : "HEIC" };
  }
  if (["II*\0", "MM\0*"].includes(text(bytes, 0, 4))) return { format: "TIFF" };
  return view.getUint16(0) === 0xffd8 ? { format: "JPEG", ...jpegSize(view) } : { format: null };
}

/** Width and height, which the frame header (SOF) has, behind other segments. @param {DataView} view */
function jpegSize(view) {
  for (let at = 2; at + 9 < view.byteLength; at += 2 + view.getUint16(at + 2)) {
    while (view.getUint8(at + 1) === 0xff && at + 11 < view.byteLength) at++; // padding
    if (view.getUint8(at) !== 0xff) return {};
    const marker = view.getUint8(at + 1);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    }
  }
  return {};
}

/** Why a picture of this size is not taken, or null. @param {number} width @param {number} height */
export function problemOfSize(width, height) {
  const [short, long] = [width, height].sort((a, b) => a - b);
  if (width * height > MAX_PIXELS) {
    return `has ${Math.round((width * height) / 1e6)} megapixels; make it smaller, ${MAX_PIXELS / 1e6} at most.`;
  }
  if (short < MIN_SIDE) return `has ${width} by ${height} pixels; each side needs ${MIN_SIDE} at least.`;
  return long > MAX_ASPECT * short
    ? `has ${width} by ${height} pixels; one side may be at most ${MAX_ASPECT} times the other.` : null;
}

/** Why a file of this format could not be decoded. @param {string | null} format */
export function problemOfFormat(format) {
  if (!format) return "is no photo that a browser can read.";
  return ["HEIC", "TIFF"].includes(format)
    ? `is a ${format} photo, which this browser cannot read; save it as JPEG and choose that.`
    : `is a broken ${format} file.`;
}

/** The format of a file; an Error with a sentence if it is not worth decoding.
 * @param {Blob} file @param {ArrayBuffer} [head] its first bytes, if they are known */
export async function checkHeader(file, head) {
  if (!file.size) throw new Error("is empty.");
  if (file.size > MAX_BYTES) {
    throw new Error(`has ${Math.round(file.size / 1e6)} million bytes; ${MAX_BYTES / 1e6} are the most.`);
  }
  const bytes = new Uint8Array(head ?? await file.slice(0, HEADER_BYTES).arrayBuffer());
  const { format, width, height } = readHeader(bytes);
  const problem = width && height ? problemOfSize(width, height) : null;
  if (problem) throw new Error(problem);
  return format;
}
