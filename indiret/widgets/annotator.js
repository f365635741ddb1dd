// Draws and judges regions of interest. annotate.py keeps the file and hands over one photo at a
// time; what is drawn lives here, and every change is told at once. Corners are in the photo's pixels.

const TALLEST = 560; // of the photo, px
const REACH = 12; // px within which a corner is taken hold of
const LEAST = 4; // pixels of the photo on each side of a region, as indiret.images.MIN_BOX_SIDE
const ORIGINS = { drawn: "drawn", query: "box of a query", sift: "proposed" };
const KEYS = [
  "Arrow keys move the cross, with Shift by one pixel; Enter sets a corner; C closes a polygon; " +
    "Backspace takes the last corner back; Escape gives up.",
  "B box, P polygon. S selects the next region, E takes hold of its next corner, A accepts it, " +
    "R rejects it, X deletes it. 0: nothing here.",
  "N next photo, Shift+N the one before, J next that is not done. Z undoes, Y does it again.",
];

const STYLE = `
:host { display: block; font-size: 15px; line-height: 1.45; text-align: left;
  --line: color-mix(in srgb, currentColor 26%, transparent); --ink: #22252b; --accent: #ffb000;
  --good: #35d08f; --bad: #ff6f55; --given: #6fb7ff; }
* { box-sizing: border-box; }
.bar { display: flex; flex-wrap: wrap; gap: .35rem .5rem; align-items: center; margin: 0 0 .45rem; }
.bar label { display: flex; gap: .35rem; align-items: center; cursor: pointer; }
progress { width: 8rem; accent-color: var(--accent); }
.name { overflow-wrap: anywhere; margin: 0 0 .3rem; }
.notice { border-left: 4px solid var(--accent); padding-left: .6rem; margin: 0 0 .5rem; }
.trouble { border-left: 4px solid var(--bad); padding-left: .6rem; margin: .4rem 0; }
button, select { font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: .4rem; padding: .2rem .7rem; cursor: pointer; min-height: 28px; }
select { background: Canvas; color: CanvasText; }
button:hover:not(:disabled) { border-color: currentColor; }
button:disabled { opacity: .45; cursor: default; }
button[aria-pressed=true] { background: var(--accent); border-color: var(--accent);
  color: var(--ink); }
.pad { position: relative; margin: 0 auto; max-width: 100%; cursor: crosshair; touch-action: none;
  user-select: none; -webkit-user-select: none; -webkit-tap-highlight-color: transparent; }
.pad img { display: block; width: 100%; height: 100%; border-radius: 4px; }
.pad svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none;
  overflow: visible; }
.pad:focus-visible, button:focus-visible, select:focus-visible, input:focus-visible {
  outline: 3px solid #2f7de1; outline-offset: 2px; }
.under, .outline, .cross { fill: none; vector-effect: non-scaling-stroke; }
.under { stroke: var(--ink); stroke-width: 4.5; stroke-opacity: .8; }
.outline { stroke: var(--good); stroke-width: 2.2; }
.outline.query { stroke: var(--given); }
.outline.open { stroke: var(--accent); stroke-dasharray: 7 4; }
.outline.rejected { stroke: var(--bad); stroke-dasharray: 2 4; }
.outline.selected { stroke-width: 3.6; } .outline.draft { stroke: #fff; stroke-dasharray: 4 3; }
.handle { fill: #fff; stroke: var(--ink); vector-effect: non-scaling-stroke; }
.handle.held { fill: var(--accent); }
.cross { stroke: #fff; stroke-width: 1.5; } .cross.under { stroke: var(--ink); stroke-width: 4; }
.regions { list-style: none; margin: .5rem 0 .3rem; padding: 0; display: flex; flex-wrap: wrap;
  gap: .35rem; }
.status { margin: .35rem 0; min-height: 1.45em; font-variant-numeric: tabular-nums; }
.keys { margin: 0; font-size: 13px; opacity: .8; }
[hidden] { display: none !important; }
`;

/** An HTML element with attributes (null: none) and children; text is never read as markup. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, []);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

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

/** Whether a place is inside: how often a ray to the left crosses the outline. */
function holds(points, [x, y]) {
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

function largeEnough(points) {
  const spans = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  });
  return Math.min(...spans) >= LEAST && area(points) >= LEAST ** 2 / 2;
}

class Annotator {
  constructor(model, root) {
    Object.assign(this, { model, root, mode: "box", histories: new Map(), url: null });
    this.build();
    this.handlers = {
      "change:view": () => this.load(),
      "change:progress": () => this.showProgress(),
      "change:message": () => this.showMessage(),
    };
    Object.entries(this.handlers).forEach(([event, handler]) => model.on(event, handler));
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(root.host);
    this.ready = this.load();
  }

  remove() {
    this.observer.disconnect();
    Object.entries(this.handlers).forEach(([event, handler]) => this.model.off(event, handler));
    if (this.url) URL.revokeObjectURL(this.url);
  }

  build() {
    const button = (text, action, pressed = null) => {
      const one = make("button", { type: "button", "aria-pressed": pressed }, text);
      one.addEventListener("click", action);
      return one;
    };
    this.place = make("span", { class: "place" });
    this.bar = make("progress", { "aria-label": "photos done" });
    this.before = button("← previous", () => this.open(this.view.number - 1));
    this.after = button("next →", () => this.open(this.view.number + 1));
    this.jump = button("next not done", () => this.model.send({ do: "jump" }));
    this.name = make("p", { class: "name" });
    this.notice = make("p", { class: "notice" }, this.model.get("notice") ?? "");
    this.notice.hidden = !this.model.get("notice");
    this.image = make("img", { draggable: "false" });
    this.drawing = draw("svg", { "aria-hidden": "true", preserveAspectRatio: "none" });
    this.pad = make("div", {
      class: "pad", tabindex: 0, role: "application", "aria-roledescription": "drawing area",
      "aria-describedby": "keys",
    }, this.image, this.drawing);
    this.modes = {
      box: button("box", () => this.choose("box"), "true"),
      polygon: button("polygon", () => this.choose("polygon"), "false"),
    };
    this.landmark = make("select", { "aria-label": "landmark of new regions" });
    this.undoing = button("undo", () => this.travel("past", "future"));
    this.redoing = button("redo", () => this.travel("future", "past"));
    this.accepting = button("accept", () => this.judge("accepted"));
    this.rejecting = button("reject", () => this.judge("rejected"));
    this.deleting = button("delete", () => this.delete());
    this.nothing = make("input", { type: "checkbox" });
    this.nothing.addEventListener("change", () => this.markNothing(this.nothing.checked));
    this.list = make("ul", { class: "regions", "aria-label": "regions" });
    this.status = make("p", { class: "status", role: "status", "aria-live": "polite" });
    this.trouble = make("p", { class: "trouble", role: "alert" });
    this.tools = make("div", { class: "bar", role: "toolbar", "aria-label": "drawing" },
      this.modes.box, this.modes.polygon, this.landmark, this.undoing, this.redoing,
      this.accepting, this.rejecting, this.deleting,
      make("label", {}, this.nothing, "nothing here"));
    const body = make("div", {},
      this.notice, make("div", { class: "bar" }, this.before, this.after, this.jump, this.bar,
        this.place), this.name, this.tools, this.pad, this.trouble, this.list, this.status,
      make("div", { class: "keys", id: "keys" }, ...KEYS.map((text) => make("div", {}, text))));
    body.addEventListener("keydown", (event) => this.press(event));
    this.root.append(make("style", {}, STYLE), body);
    const on = (name, action) => this.pad.addEventListener(name, (event) => action(event));
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", () => this.giveUp());
    on("focus", () => this.paint());
    on("blur", () => this.paint());
  }

  // ------------------------------------------------------------------ the photo

  async load() {
    this.view = this.model.get("view");
    const { name, number, size, problem } = this.view;
    this.regions = structuredClone(this.view.regions);
    this.isNothing = this.view.nothing;
    this.draft = this.held = this.drag = this.start = null;
    this.selected = this.regions.findIndex((region) => region.state === "open");
    this.name.textContent = name;
    this.pad.hidden = this.tools.hidden = !size;
    const landmarks = this.view.landmarks;
    this.landmark.replaceChildren(...landmarks.map((text) => make("option", {}, text)));
    this.landmark.hidden = landmarks.length < 2;
    this.showProgress();
    this.showMessage();
    if (!size) return this.say(`Photo ${number + 1} cannot be read: ${problem}`);
    this.cursor = [Math.round(size[1] / 2), Math.round(size[0] / 2)];
    const { buffer, byteOffset, byteLength } = this.model.get("picture");
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
    this.image.src = this.url;
    this.image.alt = `photo ${name}`;
    this.drawing.setAttribute("viewBox", `0 0 ${size[1]} ${size[0]}`);
    const open = this.regions.filter((region) => region.state === "open").length;
    this.say(`Photo ${number + 1} of ${this.model.get("progress").total}: ${this.count()}${
      open ? `, ${open} to accept or reject` : ""}.`);
    this.width = 0;
    this.fit();
    await this.image.decode().catch(() => {}); // another photo was asked for meanwhile
  }

  open(number) {
    const { total } = this.model.get("progress");
    if (number < 0 || number >= total) {
      return this.say(`This is the ${number < 0 ? "first" : "last"} photo.`);
    }
    this.model.send({ do: "open", number });
  }

  showProgress() {
    const { done, total } = this.model.get("progress");
    this.place.textContent = `photo ${this.view.number + 1} of ${total}, ${done} done`;
    this.bar.max = total;
    this.bar.value = done;
    this.bar.setAttribute("aria-valuetext", `${done} of ${total} photos done`);
    this.before.disabled = this.view.number === 0;
    this.after.disabled = this.view.number === total - 1;
  }

  showMessage() {
    this.trouble.textContent = this.model.get("message");
    this.trouble.hidden = !this.trouble.textContent;
  }

  fit() {
    const width = this.root.host.clientWidth;
    if (!width || width === this.width || !this.view.size) return;
    this.width = width;
    const [rows, columns] = this.view.size;
    const wide = Math.min(width, (TALLEST * columns) / rows);
    this.pad.style.width = `${wide}px`;
    this.pad.style.height = `${(wide * rows) / columns}px`;
    this.scale = columns / wide; // pixels of the photo in one of the screen
    this.paint();
  }

  // ------------------------------------------------------------------ what changes

  history() {
    const { number } = this.view;
    if (!this.histories.has(number)) this.histories.set(number, { past: [], future: [] });
    return this.histories.get(number);
  }

  now() {
    return structuredClone({ regions: this.regions, nothing: this.isNothing });
  }

  /** Every change goes through here: it can be undone, and it is told. */
  change(regions, nothing, words) {
    const history = this.history();
    history.past.push(this.now());
    history.future = [];
    this.put({ regions, nothing }, words);
  }

  put({ regions, nothing }, words) {
    Object.assign(this, { regions, isNothing: nothing, draft: null, held: null, drag: null,
      start: null });
    if (this.selected >= regions.length) this.selected = -1;
    this.model.send({ do: "keep", number: this.view.number, regions, nothing });
    this.say(words);
    this.paint();
  }

  travel(from, to) {
    this.giveUp();
    const history = this.history();
    const step = history[from].pop();
    if (!step) return this.say(from === "past" ? "Nothing to undo." : "Nothing to do again.");
    history[to].push(this.now());
    this.put(step, `${from === "past" ? "Undone" : "Done again"}: ${
      step.regions.length} region${step.regions.length === 1 ? "" : "s"}.`);
  }

  finish(points) {
    if (!largeEnough(points)) {
      this.draft = null;
      this.paint();
      return this.say(`Too small: a region has at least ${LEAST} by ${LEAST} pixels.`);
    }
    const landmark = this.landmark.value ?? "";
    const region = { points, landmark, origin: "drawn", state: "accepted", inliers: null };
    this.selected = this.regions.length;
    this.change([...this.regions, region], false, `${this.told(region)} drawn.`);
  }

  /** The selected region with something else in it. */
  altered(changes) {
    return this.regions.map((region, number) =>
      number === this.selected ? { ...region, ...changes } : region);
  }

  judge(state) {
    this.giveUp();
    if (!this.regions[this.selected]) return this.say("Select a region first.");
    this.change(this.altered({ state }), this.isNothing && state !== "accepted",
      `Region ${this.selected + 1} ${state}.`);
  }

  delete() {
    this.giveUp();
    if (!this.regions[this.selected]) return this.say("Select a region first.");
    const left = this.regions.filter((_, number) => number !== this.selected);
    const words = `Region ${this.selected + 1} deleted.`;
    this.selected = -1;
    this.change(left, this.isNothing, words);
  }

  markNothing(nothing) {
    this.giveUp();
    if (nothing && this.regions.some((region) => region.state === "accepted")) {
      this.nothing.checked = false;
      return this.say("There is a region here: delete or reject it first.");
    }
    const regions = this.regions.map((region) =>
      nothing && region.state === "open" ? { ...region, state: "rejected" } : region);
    this.change(regions, nothing, nothing ? "Marked: nothing here." : "Mark taken back.");
  }

  choose(mode) {
    this.mode = mode;
    this.giveUp();
    this.say(mode === "box" ? "Boxes: set two corners." : "Polygons: set corners, C closes.");
  }

  giveUp() {
    if (this.start) this.regions = this.start; // a corner goes back to where it was
    this.draft = this.held = this.drag = this.start = null;
    this.paint();
  }

  select(number) {
    this.giveUp();
    this.selected = number;
    this.say(number < 0 ? "No region selected." : `Selected: ${this.told(this.regions[number])}.`);
    this.paint();
  }

  // ------------------------------------------------------------------ mouse and finger

  at(event) {
    const box = this.pad.getBoundingClientRect(), [rows, columns] = this.view.size;
    return this.inside([((event.clientX - box.left) / box.width) * columns,
      ((event.clientY - box.top) / box.height) * rows]);
  }

  inside([x, y]) {
    const [rows, columns] = this.view.size;
    const kept = (value, most) => Math.round(Math.min(most, Math.max(0, value)));
    return [kept(x, columns), kept(y, rows)];
  }

  near([x1, y1], [x2, y2], reach = REACH * this.scale) {
    return Math.hypot(x1 - x2, y1 - y2) <= reach;
  }

  down(event) {
    if (event.button !== 0) return;
    this.pad.setPointerCapture(event.pointerId);
    const place = (this.cursor = this.at(event));
    const corner = this.regions[this.selected]?.points.findIndex((one) => this.near(one, place));
    if (corner >= 0 && !this.draft?.length) this.hold(corner);
    else if (this.mode === "box") this.draft = [place];
    this.drag = place;
    this.paint();
  }

  move(event) {
    if (this.drag === null && this.mode === "box") return;
    this.cursor = this.at(event);
    if (this.held !== null) this.shift();
    this.paint();
  }

  up(event) {
    if (this.drag === null) return;
    const place = (this.cursor = this.at(event)), still = this.near(place, this.drag, 4 * this.scale);
    this.drag = null;
    if (this.held !== null) this.drop();
    else if (this.mode === "polygon") this.addCorner(REACH * this.scale);
    else if (still) this.selectAt(place);
    else this.finish(rectangle(this.draft[0], place));
  }

  selectAt(place) {
    const found = [...this.regions.keys()].filter((n) => holds(this.regions[n].points, place));
    found.sort((a, b) => area(this.regions[a].points) - area(this.regions[b].points));
    this.select(found[0] ?? -1);
  }

  addCorner(reach) {
    const corners = this.draft ?? [];
    if (corners.length >= 3 && this.near(corners[0], this.cursor, reach)) return this.finish(corners);
    this.draft = [...corners, [...this.cursor]];
    this.say(`Corner ${this.draft.length} at ${this.cursor.join(", ")}.`);
    this.paint();
  }

  hold(corner) {
    this.start = structuredClone(this.regions);
    this.held = corner;
  }

  /** The corner that is held follows the cross; a box stays a box. */
  shift() {
    const { points } = this.regions[this.selected];
    const moved = points.map((point, n) => (n === this.held ? [...this.cursor] : point));
    if (isBox(this.start[this.selected].points)) {
      const across = this.start[this.selected].points[(this.held + 2) % 4];
      const [x, y] = this.cursor;
      const beside = this.start[this.selected].points[(this.held + 1) % 4];
      const corner = this.start[this.selected].points[this.held];
      const level = beside[1] === corner[1]; // the next corner is to the side
      moved[(this.held + 1) % 4] = level ? [across[0], y] : [x, across[1]];
      moved[(this.held + 3) % 4] = level ? [x, across[1]] : [across[0], y];
    }
    this.regions = this.altered({ points: moved });
  }

  drop() {
    const [regions, start] = [this.regions, this.start];
    const { points } = regions[this.selected], before = start[this.selected];
    this.giveUp();
    if (String(points) === String(before.points)) return;
    if (!largeEnough(points)) return this.say("Too small; the corner is back where it was.");
    this.change(this.altered({ points, origin: "drawn", state: "accepted", inliers: null }), false,
      `Corner moved to ${this.cursor.join(", ")}.`);
  }

  // ------------------------------------------------------------------ keys

  press(event) {
    const { key } = event, control = event.ctrlKey || event.metaKey;
    if (event.altKey || (control && !"zy".includes(key.toLowerCase()))) return;
    if (event.target === this.landmark && !control) return;
    if (!this.view.size && !["n", "N", "j", "PageUp", "PageDown"].includes(key)) return;
    const onPad = this.root.activeElement === this.pad;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(...this.view.size ?? [1]) / 50));
    const go = (x, y) => {
      this.cursor = this.inside([this.cursor[0] + x, this.cursor[1] + y]);
      if (this.held !== null) this.shift();
      this.say(`${this.cursor.join(", ")}`);
      this.paint();
    };
    const onlyOnPad = {
      ArrowUp: () => go(0, -step), ArrowDown: () => go(0, step),
      ArrowLeft: () => go(-step, 0), ArrowRight: () => go(step, 0),
      Enter: () => this.set(step), " ": () => this.set(step),
    };
    const anywhere = {
      Escape: () => (this.draft || this.held !== null ? this.giveUp() : this.select(-1)),
      Backspace: () => this.takeBack(), Delete: () => this.delete(), x: () => this.delete(),
      c: () => this.close(), b: () => this.choose("box"), p: () => this.choose("polygon"),
      s: () => this.selectNext(), e: () => this.nextCorner(),
      a: () => this.judge("accepted"), r: () => this.judge("rejected"),
      0: () => this.markNothing(!this.isNothing),
      n: () => this.open(this.view.number + (event.shiftKey ? -1 : 1)),
      PageDown: () => this.open(this.view.number + 1), PageUp: () => this.open(this.view.number - 1),
      j: () => this.model.send({ do: "jump" }),
      z: () => (event.shiftKey ? this.travel("future", "past") : this.travel("past", "future")),
      y: () => this.travel("future", "past"),
    };
    const action = (onPad && onlyOnPad[key]) || anywhere[key.length === 1 ? key.toLowerCase() : key];
    if (!action) return;
    event.preventDefault(); // the page does not scroll
    event.stopPropagation(); // and the notebook does not take the key
    action();
  }

  set(step) {
    if (this.held !== null) this.drop();
    else if (this.mode === "polygon") this.addCorner(step);
    else if (this.draft) this.finish(rectangle(this.draft[0], this.cursor));
    else {
      this.draft = [[...this.cursor]];
      this.say(`First corner at ${this.cursor.join(", ")}; Enter sets the other.`);
      this.paint();
    }
  }

  close() {
    if (this.mode === "polygon" && this.draft?.length >= 3) this.finish(this.draft);
    else this.say("A polygon is closed when it has three corners or more.");
  }

  takeBack() {
    if (!this.draft) return this.delete();
    this.draft = this.draft.length > 1 ? this.draft.slice(0, -1) : null;
    this.say(`${this.draft?.length ?? 0} corners.`);
    this.paint();
  }

  selectNext() {
    if (!this.regions.length) return this.say("There is no region.");
    this.select((this.selected + 1) % this.regions.length);
  }

  nextCorner() {
    const region = this.regions[this.selected];
    if (!region) return this.say("Select a region first.");
    const next = this.held === null ? 0 : (this.held + 1) % region.points.length;
    this.giveUp();
    this.hold(next);
    this.cursor = [...this.regions[this.selected].points[next]];
    this.pad.focus();
    this.say(`Corner ${next + 1}, at ${this.cursor.join(", ")}: move it, Enter lets go.`);
    this.paint();
  }

  // ------------------------------------------------------------------ what is shown

  say(words) {
    this.status.textContent = words;
  }

  count() {
    const { length } = this.regions;
    return `${length || "no"} region${length === 1 ? "" : "s"}`;
  }

  told({ points, landmark, origin, state, inliers }) {
    const kind = isBox(points) ? "box" : `polygon of ${points.length}`;
    return [kind, landmark, ORIGINS[origin], origin === "drawn" ? "" : state,
      inliers ? `${inliers} matches` : ""].filter(Boolean).join(", ");
  }

  paint() {
    if (!this.view.size || !this.scale) return;
    const drawn = [], path = (points, shut) =>
      `M${points.map((point) => point.join(" ")).join("L")}${shut ? "Z" : ""}`;
    const outline = (points, kind, shut = true) => drawn.push(
      draw("path", { class: "under", d: path(points, shut) }),
      draw("path", { class: `outline ${kind}`, d: path(points, shut) }));
    const handle = ([cx, cy], kind = "") => drawn.push(
      draw("circle", { class: `handle ${kind}`, cx, cy, r: 5 * this.scale }));
    this.regions.forEach(({ points, origin, state }, number) =>
      outline(points, `${origin} ${state}${number === this.selected ? " selected" : ""}`));
    this.regions[this.selected]?.points.forEach((point, number) =>
      handle(point, number === this.held ? "held" : ""));
    if (this.draft) {
      const shut = this.mode === "box";
      outline(shut ? rectangle(this.draft[0], this.cursor) : [...this.draft, this.cursor],
        "draft", shut);
      this.draft.forEach((point) => handle(point));
    }
    if (this.root.activeElement === this.pad && this.pad.matches(":focus-visible")) {
      const [x, y] = this.cursor, arm = 12 * this.scale;
      const d = `M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}`;
      drawn.push(draw("path", { class: "cross under", d }), draw("path", { class: "cross", d }));
    }
    this.drawing.replaceChildren(...drawn);
    this.showTools();
  }

  showTools() {
    const region = this.regions[this.selected], { past, future } = this.history();
    for (const [mode, one] of Object.entries(this.modes)) {
      one.setAttribute("aria-pressed", String(mode === this.mode));
    }
    this.undoing.disabled = !past.length;
    this.redoing.disabled = !future.length;
    this.deleting.disabled = !region;
    this.accepting.disabled = !region || region.state === "accepted";
    this.rejecting.disabled = !region || region.state === "rejected";
    this.nothing.checked = this.isNothing;
    const [rows, columns] = this.view.size;
    this.pad.setAttribute("aria-label",
      `${this.view.name}, ${columns} by ${rows} pixels, ${this.count()}`);
    const texts = this.regions.map((one, number) => `${number + 1}: ${this.told(one)}`);
    if (String(texts) !== this.listed) {
      const at = [...this.list.querySelectorAll("button")].indexOf(this.root.activeElement);
      this.list.replaceChildren(...texts.map((text, number) => {
        const one = make("button", { type: "button" }, text);
        one.addEventListener("click", () => this.select(number));
        return make("li", {}, one);
      }));
      this.list.querySelectorAll("button")[at]?.focus({ preventScroll: true });
      this.listed = String(texts);
    }
    this.list.querySelectorAll("button").forEach((one, number) =>
      one.setAttribute("aria-pressed", String(number === this.selected)));
  }
}

async function render({ model, el }) {
  const host = make("div", { "data-lm-suppress-shortcuts": "true" }); // JupyterLab's own keys
  el.append(host);
  const annotator = new Annotator(model, host.attachShadow({ mode: "open" }));
  await annotator.ready;
  host.dataset.ready = "";
  return () => annotator.remove();
}

/** Stands in for the live notebook's model in a page: a few photos, and nothing is kept. */
class PageModel {
  constructor({ photos, ...state }) {
    this.photos = photos;
    this.handlers = {};
    this.state = state;
    this.show(state.number);
  }

  get(name) { return this.state[name]; }
  on(event, handler) { this.handlers[event] = handler; }
  off() {}

  show(number) {
    const { jpeg, ...view } = this.photos[number];
    const picture = Uint8Array.from(atob(jpeg), (c) => c.charCodeAt(0));
    const done = this.photos.filter(({ regions, nothing }) =>
      regions.every(({ state }) => state !== "open")
      && (nothing || regions.some(({ state }) => state === "accepted"))).length;
    Object.assign(this.state, { view, picture, progress: { done, total: this.photos.length } });
  }

  send(message) {
    const { number, regions, nothing } = message;
    if (message.do === "keep") {
      Object.assign(this.photos[number], structuredClone({ regions, nothing }));
      this.show(this.state.view.number);
      return this.handlers["change:progress"]();
    }
    this.show(number ?? (this.state.view.number + 1) % this.photos.length);
    this.handlers["change:view"]();
  }
}

/** Bring every annotator of this page to life, once. */
function renderPage() {
  for (const el of document.querySelectorAll(".indiret-annotator:not([data-alive])")) {
    el.dataset.alive = "";
    const state = JSON.parse(el.dataset.state);
    delete el.dataset.state;
    render({ model: new PageModel(state), el });
  }
}

export default { render };
