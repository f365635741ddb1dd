// A plane to move by hand. plane_explorer.py packs what is unpacked here, and inlines this module in
// a page or hands it to a live notebook. Names are those of the notation: target (i, j), query (k, l).

const STATE = ["size", "turn", "stretch", "shear", "middle", "truth"];
const SLIDERS = [ // name, label, from, to, step, decimals; size and stretch in powers of two
  ["size", "size", -1, 2.5, 0.05, 2], ["turn", "turn (degrees)", -45, 45, 1, 0],
  ["stretch", "stretch", -1, 1, 0.05, 2], ["shear", "shear", -0.6, 0.6, 0.02, 2],
];
const LOGARITHMIC = ["size", "stretch"];
const HEAT = [ // matplotlib's inferno from 0.25 to 0.9, as in indiret.figures.overlay
  [87, 16, 110], [130, 32, 108], [174, 48, 92], [213, 74, 65],
  [240, 111, 32], [252, 161, 8], [246, 215, 70],
];
const KEYS = "In the target, a click, dragging or the arrow keys move the plane; with Shift by a " +
  "fifth of a patch. The heat is the vote for each place of the query's middle, for A as it is.";

const STYLE = `
:host { display: block; font-size: 15px; line-height: 1.45; text-align: left;
  --line: color-mix(in srgb, currentColor 26%, transparent); --accent: #ffb000; --ink: #22252b; }
* { box-sizing: border-box; }
.stage { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr));
  align-items: end; }
figure { margin: 0; min-width: 0; }
figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.pad { position: relative; border-radius: 4px; overflow: hidden; max-width: 400px; user-select: none;
  -webkit-user-select: none; }
.target .pad { cursor: move; touch-action: none; }
.pad img { display: block; width: 100%; height: auto; filter: grayscale(.5) brightness(.85); }
.pad canvas, .pad svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.pad canvas { opacity: .6; }
.pad:focus-visible, button:focus-visible, input:focus-visible { outline: 3px solid #2f7de1;
  outline-offset: 2px; }
.frame { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.top { stroke-width: 4; }
.under { stroke: var(--ink); stroke-width: 5; }
.voter { fill: var(--accent); stroke: var(--ink); stroke-width: 1;
  vector-effect: non-scaling-stroke; }
.voter.silent { fill: none; stroke: #fff; stroke-opacity: .55; }
.true { fill: none; stroke: #35d08f; stroke-width: 2; vector-effect: non-scaling-stroke; }
.controls { display: grid; gap: .15rem 1.2rem; margin-top: .6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); }
.slider { display: grid; grid-template-columns: 7.5em 1fr 3em; gap: .5rem; align-items: center; }
.slider output { text-align: right; font-variant-numeric: tabular-nums; }
input { accent-color: var(--accent); min-width: 0; } input[type=range] { width: 100%; }
.actions { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin-top: .5rem; }
.actions label { display: flex; gap: .4rem; align-items: center; cursor: pointer; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: .4rem; padding: .2rem .8rem; cursor: pointer; }
button:hover { border-color: currentColor; }
.readout { margin: .5rem 0 0; min-height: 2.9em; font-variant-numeric: tabular-nums; }
.bar { position: relative; height: .8rem; border: 1px solid var(--line); border-radius: .4rem;
  overflow: hidden; margin-top: .5rem; }
.bar div { height: 100%; background: var(--accent); }
.keys { margin: .2rem 0 0; font-size: 13px; opacity: .75; }
[hidden] { display: none !important; }
`;

/** An HTML element with attributes (null: none) and children; text is never read as markup. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Bytes of plane_explorer.pack → the header, with picture addresses and answers 0 … 255. */
async function unpack(bytes) {
  const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(whole).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  let at = 4 + length;
  const data = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  for (const picture of data.pictures) {
    const jpeg = new Uint8Array(buffer, at, picture.jpeg);
    picture.url = URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
    at += picture.jpeg;
  }
  data.answers = new Uint8Array(buffer, at);
  return data;
}

/** A, rows by rows: as plane_explorer.compose. */
function compose({ size, turn, stretch, shear }) {
  const angle = (turn * Math.PI) / 180, wide = Math.sqrt(stretch);
  const c = size * Math.cos(angle), s = size * Math.sin(angle);
  return [[c / wide, c * shear - s * wide], [s / wide, s * shear + c * wide]];
}

/** Where each query patch lies when the query's middle is at (0, 0), [i, j] by k · L + l. */
function around(matrix, [K, L]) {
  return Array.from({ length: K * L }, (_, patch) => {
    const k = Math.floor(patch / L) - (K - 1) / 2, l = (patch % L) - (L - 1) / 2;
    return matrix.map(([a, b]) => a * k + b * l);
  });
}

/** The answer 0 … 255 to a query patch at a place, bilinear; 0 outside, as planes.sample_plane. */
function answerAt(data, patch, i, j) {
  const [, , I, J] = data.grid, row = Math.floor(i), column = Math.floor(j);
  let sum = 0;
  for (const [a, b] of [[row, column], [row, column + 1], [row + 1, column], [row + 1, column + 1]]) {
    if (a < 0 || a >= I || b < 0 || b >= J) continue;
    const weight = (1 - Math.abs(i - a)) * (1 - Math.abs(j - b));
    if (weight) sum += weight * data.answers[(patch * I + a) * J + b];
  }
  return sum;
}

/** Votes, mean answers 0 … 255, with the query's middle at every target patch. */
function voteMap(data, steps) {
  const [, , I, J] = data.grid, votes = new Float64Array(I * J);
  for (let i = 0; i < I; i++) {
    for (let j = 0; j < J; j++) {
      let sum = 0;
      steps.forEach(([down, right], patch) => { sum += answerAt(data, patch, i + down, j + right); });
      votes[i * J + j] = sum / steps.length;
    }
  }
  return votes;
}

class PlaneExplorer {
  constructor(model, root, data) {
    Object.assign(this, { model, root, data });
    this.start = Object.fromEntries(STATE.map((name) => [name, model.get(name)]));
    this.query = this.makeSide("query", data.pictures[0]);
    this.target = this.makeSide("target", data.pictures[1]);
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.target.pad.insertBefore(this.canvas, this.target.svg);
    this.listen(this.target.pad);
    this.sliders = Object.fromEntries(SLIDERS.map((slider) => this.makeSlider(...slider)));
    const button = (text, press) => {
      const made = make("button", { type: "button" }, text);
      made.addEventListener("click", press);
      return made;
    };
    this.truth = make("input", { type: "checkbox" });
    this.truth.addEventListener("change", () => this.tell({ truth: this.truth.checked }));
    this.bar = make("div");
    this.readout = make("p", { class: "readout", role: "status", "aria-live": "polite" });
    this.known = data.truth.filter(Boolean).length;
    root.append(
      make("style", {}, STYLE),
      make("div", { class: "stage" }, this.query.figure, this.target.figure),
      make("div", { class: "bar", "aria-hidden": "true" }, this.bar), this.readout,
      make("div", { class: "controls" }, ...Object.values(this.sliders).map(({ label }) => label)),
      make("div", { class: "actions" },
        button("best t for this A", () => this.tell({ middle: this.bestMiddle() })),
        button("best plane", () => this.tell(data.best)),
        button("start again", () => this.tell(this.start)),
        ...(this.known ? [make("label", {}, this.truth, "true places")] : [])),
      make("p", { class: "keys", id: "keys" }, KEYS),
    );
    this.changed = () => this.show();
    STATE.forEach((name) => model.on(`change:${name}`, this.changed));
    this.show();
  }

  remove() {
    STATE.forEach((name) => this.model.off(`change:${name}`, this.changed));
    this.data.pictures.forEach(({ url }) => URL.revokeObjectURL(url));
  }

  makeSide(name, picture) {
    const svg = draw("svg", { viewBox: `0 0 ${picture.size[1]} ${picture.size[0]}`, "aria-hidden": "true" });
    const image = make("img", { src: picture.url, alt: `${name}: ${picture.name}`, draggable: "false",
      width: picture.size[1], height: picture.size[0] });
    const pad = make("div", { class: "pad" }, image, svg);
    const figure = make("figure", { class: name }, make("figcaption", {}, `${name}: ${picture.name}`), pad);
    return { svg, image, pad, figure, size: picture.size };
  }

  makeSlider(name, text, from, to, step, decimals) {
    const input = make("input", { type: "range", min: from, max: to, step });
    const output = make("output");
    const label = make("label", { class: "slider" }, text, input, output);
    input.addEventListener("input", () => {
      const value = Number(input.value);
      this.tell({ [name]: LOGARITHMIC.includes(name) ? 2 ** value : value });
    });
    return [name, { label, input, output, decimals }];
  }

  listen(pad) {
    fill(pad, { tabindex: 0, role: "application", "aria-label": "the plane over the target",
      "aria-describedby": "keys" }, []);
    const go = (event) => {
      const box = pad.getBoundingClientRect();
      const [from, step] = this.data.answering;
      const place = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
      this.tell({ middle: this.held(place.map((at, axis) => (at - from[axis]) / step[axis])) });
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      go(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) go(event);
    });
    pad.addEventListener("keydown", (event) => {
      const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault(); // the page does not scroll
      event.stopPropagation(); // and the notebook or the book does not take the key
      const far = event.shiftKey ? 0.2 : 1;
      this.tell({ middle: this.held(this.model.get("middle").map((at, axis) => at + far * way[axis])) });
    });
  }

  /** A place held inside the target. */
  held(place) {
    return place.map((at, axis) => Math.min(this.data.grid[2 + axis] - 1, Math.max(0, at)));
  }

  tell(changes) {
    Object.entries(changes).forEach(([name, value]) => this.model.set(name, value));
    this.model.save_changes();
    this.show();
  }

  bestMiddle() {
    const best = this.votes.indexOf(Math.max(...this.votes)), J = this.data.grid[3];
    return [Math.floor(best / J), best % J];
  }

  show() {
    const { data } = this, state = Object.fromEntries(STATE.map((name) => [name, this.model.get(name)]));
    const matrix = compose(state), key = matrix.flat().join();
    this.steps = around(matrix, data.grid);
    if (key !== this.key) { // t alone does not change them
      this.key = key;
      this.votes = voteMap(data, this.steps);
      this.paint();
    }
    const places = this.steps.map(([i, j]) => [i + state.middle[0], j + state.middle[1]]);
    const answers = places.map(([i, j], patch) => answerAt(data, patch, i, j));
    const scale = data.high / 255, mean = (sum) => (scale * sum) / places.length;
    const vote = mean(answers.reduce((a, b) => a + b)), best = scale * Math.max(...this.votes);
    const right = data.truth.filter((true_, patch) => true_ &&
      Math.hypot(true_[0] - places[patch][0], true_[1] - places[patch][1]) <= 1.5).length;
    this.drawSide(this.query, data.asked, around([[1, 0], [0, 1]], data.grid)
      .map(([k, l]) => [k + (data.grid[0] - 1) / 2, l + (data.grid[1] - 1) / 2]), answers);
    this.drawSide(this.target, data.answering, places, answers, state.truth ? data.truth : []);
    for (const [name, { input, output, decimals }] of Object.entries(this.sliders)) {
      input.value = LOGARITHMIC.includes(name) ? Math.log2(state[name]) : state[name];
      output.textContent = state[name].toFixed(decimals);
    }
    this.truth.checked = state.truth;
    this.bar.style.width = `${Math.min(100, (100 * vote) / this.highest())}%`;
    const t = matrix.map(([a, b], axis) =>
      state.middle[axis] - a * (data.grid[0] - 1) / 2 - b * (data.grid[1] - 1) / 2);
    const row = (numbers) => numbers.map((number) => number.toFixed(2)).join(" ");
    this.readout.textContent = `Vote ${vote.toFixed(3)}, the mean of ${places.length} answers; the best t ` +
      `for this A has ${best.toFixed(3)}. A = [${matrix.map(row).join("; ")}], t = (${t.map((at) =>
        at.toFixed(1)).join(", ")}).` + (this.known
        ? ` ${right} of ${this.known} true pairs lie within a patch and a half of this plane.` : "");
    this.root.host.dataset.vote = vote;
  }

  /** The vote of the best plane, full width of the bar. */
  highest() {
    if (!this.top) {
      const { best, answers, high } = this.data;
      const steps = around(compose(best), this.data.grid);
      const sum = steps.reduce((total, [i, j], patch) =>
        total + answerAt(this.data, patch, i + best.middle[0], j + best.middle[1]), 0);
      this.top = ((high / 255) * sum) / steps.length || 1;
    }
    return this.top;
  }

  paint() {
    const [, , I, J] = this.data.grid, [from, step] = this.data.answering;
    const high = (255 / this.data.high) * this.highest();
    const image = new ImageData(J, I);
    this.votes.forEach((vote, at) => {
      const value = Math.min(1, vote / high), place = value * (HEAT.length - 1);
      const stop = Math.min(Math.floor(place), HEAT.length - 2);
      for (let c = 0; c < 3; c++) {
        image.data[4 * at + c] = HEAT[stop][c] + (place - stop) * (HEAT[stop + 1][c] - HEAT[stop][c]);
      }
      image.data[4 * at + 3] = Math.round(255 * value ** 0.75);
    });
    Object.assign(this.canvas, { width: J, height: I });
    this.canvas.getContext("2d").putImageData(image, 0, 0);
    const [top, left] = from.map((at, axis) => 100 * (at - step[axis] / 2));
    Object.assign(this.canvas.style, { top: `${top}%`, left: `${left}%`,
      height: `${100 * I * step[0]}%`, width: `${100 * J * step[1]}%` });
  }

  drawSide({ svg, size }, [from, step], places, answers, truth = []) {
    const at = ([i, j]) => [size[1] * (from[1] + j * step[1]), size[0] * (from[0] + i * step[0])];
    const [K, L] = this.data.grid, spots = places.map(at);
    const corners = [0, L - 1, K * L - 1, (K - 1) * L].map((patch) => spots[patch].join());
    const reach = 0.011 * Math.hypot(...size);
    const dots = spots.map(([x, y], patch) => {
      const answer = answers[patch] / 255;
      return draw("circle", { cx: x, cy: y, r: answer > 0.05 ? reach * (0.35 + answer) : reach / 3,
        class: answer > 0.05 ? "voter" : "voter silent" });
    });
    const rings = truth.filter(Boolean).map(at).map(([x, y]) =>
      draw("circle", { cx: x, cy: y, r: 0.7 * reach, class: "true" }));
    svg.replaceChildren(
      draw("polyline", { points: corners.slice(0, 2).join(" "), class: "frame under" }),
      draw("polygon", { points: corners.join(" "), class: "frame" }),
      draw("polyline", { points: corners.slice(0, 2).join(" "), class: "frame top" }), ...dots, ...rings,
    );
  }
}

async function render({ model, el }) {
  const host = make("div", { "data-lm-suppress-shortcuts": "true" }); // JupyterLab's own keys
  el.append(host);
  const root = host.attachShadow({ mode: "open" });
  try {
    const { buffer, byteOffset, byteLength } = model.get("payload");
    const data = await unpack(new Uint8Array(buffer, byteOffset, byteLength));
    const explorer = new PlaneExplorer(model, root, data);
    await Promise.all([explorer.query, explorer.target].map(({ image }) => image.decode()));
    host.dataset.ready = Math.round(performance.now()); // ms since the page was asked for
    return () => explorer.remove();
  } catch (error) {
    root.append(`The plane cannot be shown: ${error.message}`);
    throw error;
  }
}

/** Stands in for the live notebook's model in a page. */
class PageModel {
  constructor(state) { this.state = state; }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; }
  on() {}
  off() {}
  save_changes() {}
}

/** Bring every plane of this page to life, once. */
function renderPage() {
  for (const el of document.querySelectorAll(".indiret-planes:not([data-alive])")) {
    el.dataset.alive = "";
    const payload = Uint8Array.from(atob(el.dataset.payload), (c) => c.charCodeAt(0));
    delete el.dataset.payload;
    render({ model: new PageModel({ ...JSON.parse(el.dataset.state), payload }), el });
  }
}

export default { render };
