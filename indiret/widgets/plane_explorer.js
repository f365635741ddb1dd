// A plane to move by hand, and its votes, counted here. Names are those of the notation: target
// (i, j), query (k, l). plane_explorer.py packs what is unpacked here.

const STATE = ["size", "turn", "stretch", "shear", "middle", "truth"];
const SLIDERS = [ // name, label, from, to, step, decimals; size and stretch in powers of two
  ["size", "size", -1, 2.5, 0.05, 2], ["turn", "turn (degrees)", -45, 45, 1, 0],
  ["stretch", "stretch", -1, 1, 0.05, 2], ["shear", "shear", -0.6, 0.6, 0.02, 2],
];
const LOGARITHMIC = ["size", "stretch"];
const KEYS = "In the target, a click, dragging or the arrow keys move the plane; with Shift by a " +
  "fifth of a patch. The heat is the vote for each place of the query's middle, for A as it is.";

const STYLE = `
.stage { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr));
  align-items: end; }
.pad { overflow: hidden; max-width: 400px; }
.target .pad { cursor: move; touch-action: none; }
.pad img { display: block; width: 100%; height: auto; filter: grayscale(.5) brightness(.85); }
.pad canvas { opacity: .6; }
.frame, .top { fill: none; stroke: var(--accent); stroke-width: 1.5; }
.top { stroke-width: 4; }
.voter { fill: var(--accent); stroke: var(--ink); stroke-width: 1; }
.voter.silent { fill: none; stroke: #fff; stroke-opacity: .55; }
.true { fill: none; stroke: var(--good); stroke-width: 2; }
.controls { display: grid; gap: .15rem 1.2rem; margin-top: .6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); }
.slider { display: grid; grid-template-columns: 7.5em 1fr 3em; gap: .5rem; align-items: center; }
.slider output { text-align: right; font-variant-numeric: tabular-nums; }
input[type=range] { width: 100%; }
.actions { margin: .5rem 0 .2rem; }
.status { min-height: 2.9em; }
.bar { height: .8rem; border: 1px solid var(--line); border-radius: .4rem; overflow: hidden;
  margin-top: .5rem; }
.bar div { height: 100%; background: var(--accent); }
`;

/** Bytes of plane_explorer.pack → the header, with picture addresses and values 0 … 255. */
async function unpackPlanes(bytes) {
  const { header, take } = await unpack(bytes);
  for (const picture of header.pictures) picture.url = pictureUrl(take(picture.jpeg));
  header.values = take(header.grid.reduce((a, b) => a * b));
  return header;
}

/** A, rows by rows: as plane_explorer.compose. @param {any} settings */
function compose({ size, turn, stretch, shear }) {
  const angle = (turn * Math.PI) / 180, wide = Math.sqrt(stretch);
  const c = size * Math.cos(angle), s = size * Math.sin(angle);
  return [[c / wide, c * shear - s * wide], [s / wide, s * shear + c * wide]];
}

/** Where each query patch lies when the query's middle is at (0, 0), [i, j] by k · L + l. */
function offsetsFromMiddle(matrix, [K, L]) {
  return Array.from({ length: K * L }, (_, patch) => {
    const k = Math.floor(patch / L) - (K - 1) / 2, l = (patch % L) - (L - 1) / 2;
    return matrix.map(([a, b]) => a * k + b * l);
  });
}

/** The value 0 … 255 of a query patch at a place, bilinear; 0 outside, as planes.sample_plane. */
function valueAt({ grid: [, , I, J], values }, patch, i, j) {
  const row = Math.floor(i), column = Math.floor(j);
  let sum = 0;
  for (const [a, b] of [[row, column], [row, column + 1], [row + 1, column], [row + 1, column + 1]]) {
    if (a < 0 || a >= I || b < 0 || b >= J) continue;
    const weight = (1 - Math.abs(i - a)) * (1 - Math.abs(j - b));
    if (weight) sum += weight * values[(patch * I + a) * J + b];
  }
  return sum;
}

/** The vote, the mean value 0 … 255, of query patches at offsets from a middle. */
function voteAt(data, offsets, i, j) {
  let sum = 0;
  offsets.forEach(([down, right], patch) => { sum += valueAt(data, patch, i + down, j + right); });
  return sum / offsets.length;
}

class PlaneExplorer extends View {
  constructor(model, root, data) {
    super(model, root, STYLE);
    this.data = data;
    this.urls = data.pictures.map(({ url }) => url);
    this.start = this.state;
    const [, , I, J] = data.grid, { best } = data;
    this.middles = Array.from({ length: I * J }, (_, patch) => [Math.floor(patch / J), patch % J]);
    // the vote of the best plane is the full width of the bar, and the warmest heat
    this.highest = voteAt(data, offsetsFromMiddle(compose(best), data.grid), ...best.middle) || 255;
    this.query = this.makeSide("query", data.pictures[0]);
    this.target = this.makeSide("target", data.pictures[1]);
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.target.pad.insertBefore(this.canvas, this.target.svg);
    this.listenToPad(this.target.pad);
    this.sliders = Object.fromEntries(SLIDERS.map((slider) => this.makeSlider(...slider)));
    this.truth = element("input", { type: "checkbox" });
    this.truth.addEventListener("change", () => this.update({ truth: this.truth.checked }));
    this.bar = element("div");
    this.readout = element("p", { class: "status readout", role: "status", "aria-live": "polite" });
    this.known = data.truth.filter(Boolean).length;
    root.append(
      element("div", { class: "stage" }, this.query.figure, this.target.figure),
      element("div", { class: "bar", "aria-hidden": "true" }, this.bar), this.readout,
      element("div", { class: "controls" }, ...Object.values(this.sliders).map(({ label }) => label)),
      element("div", { class: "row actions" },
        button("best t for this A", () => this.update({ middle: this.bestMiddle() })),
        button("best plane", () => this.update(best)),
        button("start again", () => this.update(this.start)),
        ...(this.known ? [element("label", {}, this.truth, "true places")] : [])),
      element("p", { class: "keys", id: "keys" }, KEYS),
    );
    this.listen(STATE, () => this.showSoon());
    this.show();
  }

  get state() {
    return Object.fromEntries(STATE.map((name) => [name, this.model.get(name)]));
  }

  makeSide(name, { size: [height, width], url, name: title }) {
    const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const image = element("img", { src: url, alt: `${name}: ${title}`, draggable: "false", width, height });
    const pad = element("div", { class: "pad" }, image, svg);
    const axes = name === "query" ? "k ↓ l →" : "i ↓ j →";
    const caption = element("figcaption", {}, `${name}, ${axes}: ${title}`);
    const figure = element("figure", { class: name }, caption, pad);
    return { svg, image, pad, figure, size: [height, width] };
  }

  makeSlider(name, text, from, to, step, decimals) {
    const input = element("input", { type: "range", min: from, max: to, step });
    const output = element("output");
    const label = element("label", { class: "slider" }, text, input, output);
    input.addEventListener("input", () => {
      const value = Number(input.value);
      this.update({ [name]: LOGARITHMIC.includes(name) ? 2 ** value : value });
    });
    return [name, { label, input, output, decimals }];
  }

  listenToPad(pad) {
    setAttributes(pad, { tabindex: 0, role: "application", "aria-label": "the plane over the target",
      "aria-describedby": "keys" });
    const [from, step] = this.data.target_grid;
    const move = (event) => this.moveTo(
      positionIn(pad, event).map((place, axis) => (place - from[axis]) / step[axis]));
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      move(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) move(event);
    });
    pad.addEventListener("keydown", (event) => {
      const way = arrowStep(event);
      if (!way) return;
      consume(event);
      const far = event.shiftKey ? 0.2 : 1;
      this.moveTo(this.model.get("middle").map((at, axis) => at + far * way[axis]));
    });
  }

  /** The query's middle to a place, or to the nearest inside the target. */
  moveTo(place) {
    const last = this.data.grid.slice(2);
    this.update({ middle: place.map((at, axis) => clamp(at, 0, last[axis] - 1)) });
  }

  bestMiddle() {
    return this.middles[this.votes.indexOf(Math.max(...this.votes))];
  }

  show() {
    const { data, state } = this, [K, L] = data.grid;
    const matrix = compose(state), key = matrix.flat().join();
    this.offsets = offsetsFromMiddle(matrix, data.grid);
    if (key !== this.key) { // t alone does not change them
      this.key = key;
      this.votes = this.middles.map((middle) => voteAt(data, this.offsets, ...middle));
      this.paint();
    }
    const places = this.offsets.map(([i, j]) => [i + state.middle[0], j + state.middle[1]]);
    const values = places.map(([i, j], patch) => valueAt(data, patch, i, j));
    const identity = Array.from(values, (_, patch) => [Math.floor(patch / L), patch % L]);
    this.drawSide(this.query, data.query_grid, identity, values);
    this.drawSide(this.target, data.target_grid, places, values, state.truth ? data.truth : []);
    for (const [name, { input, output, decimals }] of Object.entries(this.sliders)) {
      input.value = LOGARITHMIC.includes(name) ? Math.log2(state[name]) : state[name];
      output.textContent = state[name].toFixed(decimals);
    }
    this.truth.checked = state.truth;
    const vote = voteAt(data, this.offsets, ...state.middle);
    this.bar.style.width = `${Math.min(100, (100 * vote) / this.highest)}%`;
    const t = matrix.map(([a, b], axis) => state.middle[axis] - (a * (K - 1) + b * (L - 1)) / 2);
    this.readout.textContent = this.summary(matrix, t, places, vote);
    this.root.host.dataset.vote = (vote * data.high) / 255;
  }

  summary(matrix, t, places, vote) {
    const { truth, high } = this.data, real = (value) => ((value * high) / 255).toFixed(3);
    const row = (numbers) => numbers.map((number) => number.toFixed(2)).join(" ");
    const right = truth.filter((place, patch) => place &&
      Math.hypot(place[0] - places[patch][0], place[1] - places[patch][1]) <= 1.5).length;
    return `Vote ${real(vote)}, the mean of ${places.length} responses; the best t for this A has ` +
      `${real(Math.max(...this.votes))}. A = [${matrix.map(row).join("; ")}], ` +
      `t = (${t.map((at) => at.toFixed(1)).join(", ")}).` + (this.known
        ? ` ${right} of ${this.known} true pairs lie within a patch and a half of this plane.` : "");
  }

  paint() {
    const [, , I, J] = this.data.grid, [from, step] = this.data.target_grid;
    paintHeat(this.canvas, this.votes.map((vote) => Math.min(1, vote / this.highest)), [I, J]);
    const [top, left] = from.map((at, axis) => 100 * (at - step[axis] / 2));
    Object.assign(this.canvas.style, { top: `${top}%`, left: `${left}%`,
      height: `${100 * I * step[0]}%`, width: `${100 * J * step[1]}%` });
  }

  /** @param {any} side */
  drawSide({ svg, size: [height, width] }, [from, step], places, values, truth = []) {
    const at = ([i, j]) => [width * (from[1] + j * step[1]), height * (from[0] + i * step[0])];
    const [K, L] = this.data.grid, spots = places.map(at);
    const corners = [0, L - 1, K * L - 1, (K - 1) * L].map((patch) => spots[patch].join());
    const reach = 0.011 * Math.hypot(height, width), top = { points: corners.slice(0, 2).join(" ") };
    const dots = spots.map(([cx, cy], patch) => {
      const share = values[patch] / 255, votes = share > 0.05;
      return svgElement("circle", { cx, cy, r: votes ? reach * (0.35 + share) : reach / 3,
        class: votes ? "voter" : "voter silent" });
    });
    const rings = truth.filter(Boolean).map(at).map(([cx, cy]) =>
      svgElement("circle", { cx, cy, r: 0.7 * reach, class: "true" }));
    svg.replaceChildren(
      svgElement("polyline", { ...top, class: "under" }),
      svgElement("polygon", { points: corners.join(" "), class: "frame" }),
      svgElement("polyline", { ...top, class: "top" }), ...dots, ...rings,
    );
  }
}

const { render, renderPage } = defineWidget("planes", async (model, root) => {
  const explorer = new PlaneExplorer(model, root, await unpackPlanes(model.get("payload")));
  await Promise.all([explorer.query, explorer.target].map(({ image }) => image.decode()));
  return explorer;
});

export default { render };
