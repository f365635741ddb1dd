// What the lines between matched patches look like, as indiret.evaluation.line_pattern counts it.

/** Pairs {query, target} of patch numbers, joined between two sides {grid: [rows, columns]}. */
function linePattern(pairs, query, target) {
  const place = (side, patch) => [Math.floor(patch / side.grid[1]), patch % side.grid[1]];
  const lines = pairs.map((pair) =>
    ({ query: place(query, pair.query), target: place(target, pair.target) }));
  return { lines: lines.length, crossings: crossings(lines, query, target), onPlane: onPlane(lines) };
}

/** a × b, of [y, x] each. */
function crossed(a, b) {
  return a[0] * b[1] - a[1] * b[0];
}

function less(a, b) {
  return [a[0] - b[0], a[1] - b[1]];
}

/** Pairs of lines that cross between pictures of one height, side by side. */
function crossings(lines, ...sides) {
  const [wide, far] = sides.map(({ size: [height, across] }) => across / height);
  const middle = ([row, column], { grid }, aspect, left) =>
    [(row + 0.5) / grid[0], left + ((column + 0.5) / grid[1]) * aspect];
  const drawn = lines.map((line) =>
    [middle(line.query, sides[0], wide, 0), middle(line.target, sides[1], far, wide)]);
  const parts = ([from, to], other) =>
    other.map((end) => Math.sign(crossed(less(to, from), less(end, from)))).reduce((a, b) => a * b) < 0;
  const among = (line, n) => drawn.slice(0, n).filter((one) => parts(one, line) && parts(line, one));
  return drawn.reduce((sum, line, n) => sum + among(line, n).length, 0);
}

/** Lines within one patch of the plane, through three of them, that most lie on; in whole numbers. */
function onPlane(lines) {
  let best = Math.min(lines.length, 2);
  for (let a = 0; a < lines.length; a++) {
    const away = lines.map((line) =>
      ({ query: less(line.query, lines[a].query), target: less(line.target, lines[a].target) }));
    for (let b = a + 1; b < lines.length; b++) {
      for (let c = b + 1; c < lines.length; c++) {
        const area = crossed(away[b].query, away[c].query);
        if (area * crossed(away[b].target, away[c].target) <= 0) continue; // flat, or mirrored
        const near = ({ query, target }) => [0, 1].every((axis) => Math.abs(
          crossed(query, away[c].query) * away[b].target[axis] +
          crossed(away[b].query, query) * away[c].target[axis] - area * target[axis],
        ) <= Math.abs(area));
        best = Math.max(best, away.filter(near).length);
      }
    }
  }
  return best;
}
