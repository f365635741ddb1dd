// Rounding as Python and torch round, and affine maps (2, 3) of places.

/** To the nearest whole number, halves to even ones. @param {number} value */
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** To the eleven bits of a half. @param {number} value */
export function toHalf(value) {
  const wide = value * (2 ** 42 + 1);
  return wide - (wide - value);
}

/** The affine map (2, 3) that undoes one; NaN where there is none. @param {number[][]} affine */
export function inverse([[a, b, down], [c, d, right]]) {
  const area = a * d - b * c, [p, q, r, s] = [d, -b, -c, a].map((value) => value / (area || NaN));
  return [[p, q, -p * down - q * right], [r, s, -r * down - s * right]];
}

/** @param {number[][]} affine @param {number[]} point @returns {[number, number]} */
export function transfer([[a, b, down], [c, d, right]], [y, x]) {
  return [a * y + b * x + down, c * y + d * x + right];
}
