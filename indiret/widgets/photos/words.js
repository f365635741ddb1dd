// What the page says of a pair, and how a list is written for a spreadsheet. FOUND and other limits
// are those of indiret.retrieval.

/** 0 … 1 → "97 %"; never "0 %" or "100 %", which nobody knows. @param {number} share */
export function percent(share) {
  if (share > 0.99) return "over 99 %";
  return share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}

/**
 * A pair's verdict in words.
 * @param {{probability: number, structure: [number, number]}} pair
 */
export function answerWords({ probability, structure }) {
  if (Math.min(...structure) < LITTLE_STRUCTURE) {
    return { verdict: "unknown", title: "Too little structure to tell.",
      detail: "Most of a photo is smooth, or the same all over. Take one, or a part, with corners and edges." };
  }
  if (probability >= 0.9) {
    return { verdict: "same", title: "The same thing, very likely.",
      detail: "Many patches of the one lie in the other as a plane would have them." };
  }
  if (probability >= FOUND) {
    return { verdict: "same", title: "Perhaps the same thing.",
      detail: "Some patches of the one lie in the other as a plane would have them. See whether the lines convince you." };
  }
  return { verdict: "different", title: probability >= 0.1 ? "Probably not the same thing." : "No sign of the same thing.",
    detail: "No plane puts enough patches of the one where they are in the other. What is smooth, bent or turned is missed." };
}

/**
 * Whether the first of a folder's photos is an answer, as `is_found` of indiret.cli.hits: if its
 * probability says so, or if that is not negligible and the photo stands out from the others.
 * @param {{probability: number | null, score: number, judged: boolean}[]} hits best first
 */
export function isFound([first, ...others]) {
  const likely = first.probability ?? 0, judged = others.filter((hit) => hit.judged).map(({ score }) => score);
  if (likely >= FOUND) return true;
  const middle = median(judged), deviation = 1.4826 * median(judged.map((score) => Math.abs(score - middle)));
  return likely >= NOT_NEGLIGIBLE && judged.length + 1 >= LEAST_COMPANY && deviation > 0
    && first.score - middle >= STANDS_OUT * deviation;
}

/** @param {number[]} values */
function median(values) {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** A cell that no spreadsheet takes for a formula. @param {string | number} value */
export function csvCell(value) {
  if (typeof value === "number") return String(value);
  const safe = /^\s*[=+\-@＝＋－＠\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n;']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Rows of cells as a file's text. @param {(string | number)[][]} rows */
export function csv(rows) {
  return rows.map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");
}
