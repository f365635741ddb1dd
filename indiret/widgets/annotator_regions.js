// The regions of one photo while they are edited: shapes, what is selected or drawn, undo. Corners
// are in the photo's pixels. The view says what `announce`, `paint` and `save` do.

const REACH = 12; // px within which a corner is taken hold of
const LEAST = 4; // pixels of the photo on each side of a region, as indiret.images.MIN_BOX_SIDE
const ORIGINS = { drawn: "drawn", query: "box of a query", sift: "proposed" };

/** @param {number[]} one @param {number[]} other opposite corners */
function rectangle([x1, y1], [x2, y2]) {
  const [left, right] = [Math.min(x1, x2), Math.max(x1, x2)];
  const [top, bottom] = [Math.min(y1, y2), Math.max(y1, y2)];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

function isBox(points) {
  if (points.length !== 4) return false;
  const [[x1, y1], [x2, y2], [x3, y3], [x4, y4]] = points;
  return (y1 === y2 && x2 === x3 && y3 === y4 && x4 === x1)
    || (x1 === x2 && y2 === y3 && x3 === x4 && y4 === y1);
}

/** Whether a place is inside: how often a ray to the left crosses the outline.
 * @param {number[][]} points @param {number[]} place */
function contains(points, [x, y]) {
  let inside = false;
  points.forEach(([x1, y1], number) => {
    const [x2, y2] = points[(number + 1) % points.length];
    if (y1 <= y !== y2 <= y && x >= x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)) inside = !inside;
  });
  return inside;
}

function area(points) {
  const terms = points.map(([x1, y1], number) => {
    const [x2, y2] = points[(number + 1) % points.length];
    return x1 * y2 - x2 * y1;
  });
  return Math.abs(terms.reduce((a, b) => a + b, 0)) / 2;
}

function isLargeEnough(points) {
  const spans = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  });
  return Math.min(...spans) >= LEAST && area(points) >= LEAST ** 2 / 2;
}

/** @param {number[]} one @param {number[]} other */
function distance([x1, y1], [x2, y2]) {
  return Math.hypot(x1 - x2, y1 - y2);
}

function describe({ points, landmark, origin, state, inliers }) {
  const shape = isBox(points) ? "box" : `polygon of ${points.length}`;
  return [shape, landmark, ORIGINS[origin], origin === "drawn" ? "" : state,
    inliers ? `${inliers} matches` : ""].filter(Boolean).join(", ");
}

/** `draft`: corners of a new region. `held`: number of a corner of the selected one, and `start`: the
 * regions before it moved. `drag`: where a mouse button or finger went down. */
class RegionEditor {
  constructor({ announce, paint, save, landmark }) {
    Object.assign(this, { announce, paint, save, landmark, mode: "box", histories: new Map() });
  }

  /** Begin with a photo: its size [rows, columns], regions, and whether nothing is on it. */
  load({ number, size, regions, nothing }) {
    if (!this.histories.has(number)) this.histories.set(number, { past: [], future: [] });
    this.history = this.histories.get(number);
    this.regions = structuredClone(regions);
    Object.assign(this, { size, nothing, draft: null, held: null, start: null, drag: null });
    this.selected = this.regions.findIndex((region) => region.state === "open");
    if (size) this.cursor = [Math.round(size[1] / 2), Math.round(size[0] / 2)];
  }

  get region() {
    return this.regions[this.selected];
  }

  // ---- changes and undo

  snapshot() {
    return structuredClone({ regions: this.regions, nothing: this.nothing });
  }

  /** Every change goes through here: it can be undone, and it is saved. */
  change(regions, nothing, words) {
    this.history.past.push(this.snapshot());
    this.history.future = [];
    this.apply({ regions, nothing }, words);
  }

  apply({ regions, nothing }, words) {
    Object.assign(this, { regions, nothing, draft: null, held: null, start: null, drag: null });
    if (this.selected >= regions.length) this.selected = -1;
    this.save(regions, nothing);
    this.announce(words);
    this.paint();
  }

  undo() {
    this.step(this.history.past, this.history.future, "Undone", "Nothing to undo.");
  }

  redo() {
    this.step(this.history.future, this.history.past, "Done again", "Nothing to do again.");
  }

  step(from, to, done, none) {
    this.cancel();
    const state = from.pop();
    if (!state) return this.announce(none);
    to.push(this.snapshot());
    const { length } = state.regions;
    this.apply(state, `${done}: ${length} region${length === 1 ? "" : "s"}.`);
  }

  cancel() {
    if (this.start) this.regions = this.start; // a corner goes back to where it was
    this.draft = this.held = this.start = this.drag = null;
    this.paint();
  }

  /** All regions, the selected one with something else in it. */
  altered(changes) {
    return this.regions.map((region, number) =>
      number === this.selected ? { ...region, ...changes } : region);
  }

  add(points) {
    if (!isLargeEnough(points)) {
      this.draft = null;
      this.paint();
      return this.announce(`Too small: a region has at least ${LEAST} by ${LEAST} pixels.`);
    }
    const landmark = this.landmark();
    const region = { points, landmark, origin: "drawn", state: "accepted", inliers: null };
    this.selected = this.regions.length;
    this.change([...this.regions, region], false, `${describe(region)} drawn.`);
  }

  setState(state) {
    this.cancel();
    if (!this.region) return this.announce("Select a region first.");
    this.change(this.altered({ state }), this.nothing && state !== "accepted",
      `Region ${this.selected + 1} ${state}.`);
  }

  delete() {
    this.cancel();
    if (!this.region) return this.announce("Select a region first.");
    const left = this.regions.filter((_, number) => number !== this.selected);
    const words = `Region ${this.selected + 1} deleted.`;
    this.selected = -1;
    this.change(left, this.nothing, words);
  }

  markNothing(nothing) {
    this.cancel();
    if (nothing && this.regions.some((region) => region.state === "accepted")) {
      return this.announce("There is a region here: delete or reject it first.");
    }
    const regions = this.regions.map((region) =>
      nothing && region.state === "open" ? { ...region, state: "rejected" } : region);
    this.change(regions, nothing, nothing ? "Marked: nothing here." : "Mark taken back.");
  }

  // ---- selecting

  setMode(mode) {
    this.mode = mode;
    this.cancel();
    this.announce(mode === "box" ? "Boxes: set two corners." : "Polygons: set corners, C closes.");
  }

  select(number) {
    this.cancel();
    this.selected = number;
    this.announce(number < 0 ? "No region selected." : `Selected: ${describe(this.region)}.`);
    this.paint();
  }

  selectNext() {
    if (!this.regions.length) return this.announce("There is no region.");
    this.select((this.selected + 1) % this.regions.length);
  }

  /** The smallest region that a place is in. */
  selectAt(place) {
    const found = [...this.regions.keys()].filter((n) => contains(this.regions[n].points, place));
    found.sort((a, b) => area(this.regions[a].points) - area(this.regions[b].points));
    this.select(found[0] ?? -1);
  }

  // ---- corners

  moveCursor([x, y]) {
    const [rows, columns] = this.size;
    this.cursor = [Math.round(clamp(x, 0, columns)), Math.round(clamp(y, 0, rows))];
    if (this.held !== null) this.moveHeld();
  }

  addCorner(reach) {
    const corners = this.draft ?? [];
    if (corners.length >= 3 && distance(corners[0], this.cursor) <= reach) return this.add(corners);
    this.draft = [...corners, [...this.cursor]];
    this.announce(`Corner ${this.draft.length} at ${this.cursor.join(", ")}.`);
    this.paint();
  }

  hold(corner) {
    this.start = structuredClone(this.regions);
    this.held = corner;
  }

  holdNext() {
    if (!this.region) return this.announce("Select a region first.");
    const next = this.held === null ? 0 : (this.held + 1) % this.region.points.length;
    this.cancel();
    this.hold(next);
    this.cursor = [...this.region.points[next]];
    this.announce(`Corner ${next + 1}, at ${this.cursor.join(", ")}: move it, Enter lets go.`);
    this.paint();
    return true;
  }

  /** The corner that is held follows the cursor; a box stays a box. */
  moveHeld() {
    const before = this.start[this.selected].points, [x, y] = this.cursor;
    const moved = this.region.points.map((point, n) => (n === this.held ? [x, y] : point));
    if (isBox(before)) {
      const [next, across, last] = [1, 2, 3].map((step) => (this.held + step) % 4);
      const [farX, farY] = before[across];
      const level = before[next][1] === before[this.held][1]; // the next corner is to the side
      moved[next] = level ? [farX, y] : [x, farY];
      moved[last] = level ? [x, farY] : [farX, y];
    }
    this.regions = this.altered({ points: moved });
  }

  drop() {
    const { points } = this.region, before = this.start[this.selected].points;
    this.cancel();
    if (String(points) === String(before)) return;
    if (!isLargeEnough(points)) return this.announce("Too small; the corner is back where it was.");
    this.change(this.altered({ points, origin: "drawn", state: "accepted", inliers: null }), false,
      `Corner moved to ${this.cursor.join(", ")}.`);
  }

  /** A corner at the cursor, or the held one let go. */
  setCorner(reach) {
    if (this.held !== null) this.drop();
    else if (this.mode === "polygon") this.addCorner(reach);
    else if (this.draft) this.add(rectangle(this.draft[0], this.cursor));
    else {
      this.draft = [[...this.cursor]];
      this.announce(`First corner at ${this.cursor.join(", ")}; Enter sets the other.`);
      this.paint();
    }
  }

  close() {
    if (this.mode === "polygon" && this.draft?.length >= 3) this.add(this.draft);
    else this.announce("A polygon is closed when it has three corners or more.");
  }

  removeCorner() {
    if (!this.draft) return this.delete();
    this.draft = this.draft.length > 1 ? this.draft.slice(0, -1) : null;
    this.announce(`${this.draft?.length ?? 0} corners.`);
    this.paint();
  }
}
