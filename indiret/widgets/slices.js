// Slices of the correlation tensor R: at (k, l) over the target, at (i, j) over the query.
// slices.py packs what is unpacked here.

const STATE = ["view", "target", "query", "truth"];
const KEYS = "Click, drag or use the arrow keys in either picture. Warm: above the mean of the pair.";
const AXES = { query: ["k", "l"], target: ["i", "j"] };

const STYLE = `
.stage { display: grid; gap: .9rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 250px), 1fr)); }
.framed { display: grid; grid-template-columns: 2.6em minmax(0, 330px); font-size: 12px;
  font-variant-numeric: tabular-nums; }
.axis { display: flex; text-align: center; }
.axis span { flex: 1; align-self: center; min-width: 0; }
.axis.across { grid-column: 2; position: relative; padding-top: 1.3em; }
.axis.down { flex-direction: column; padding-left: 1.2em; position: relative; }
.axis.down span { display: grid; align-content: center; }
.axis i { position: absolute; inset: 0; line-height: 1.2; font-size: 13px; }
.axis.down i { display: grid; align-content: center; right: auto; }
.pad { cursor: crosshair; touch-action: none; overflow: hidden; }
.pad img { display: block; width: 100%; height: auto; filter: grayscale(.65) brightness(.82); }
.pad canvas { image-rendering: pixelated; opacity: .8; }
.box { fill: none; stroke: #fff; stroke-width: 2; }
.true { fill: none; stroke: var(--good); stroke-width: 3; stroke-dasharray: 4 3; }
.row { margin: .3rem 0; }
.status { min-height: 4.35em; }
`;

/** Bytes of slices.py → the header, with picture addresses and, of each view, bytes in C order. */
async function unpackSlices(bytes) {
  const { header, take } = await unpack(bytes);
  for (const picture of header.pictures) picture.url = pictureUrl(take(picture.bytes));
  for (const view of header.views) view.values = take(header.grid.reduce((a, b) => a * b));
  return header;
}

/** Over the target at a query patch, or over the query at a target patch, as bytes. */
function sliceOf(values, [m, n, K, L], over, [row, column]) {
  const [length, at] = over === "target" ? [m * n, row * L + column] : [K * L, row * n + column];
  return Uint8Array.from({ length }, (_, place) =>
    over === "target" ? values[place * K * L + at] : values[at * K * L + place]);
}

class Slices extends View {
  constructor(model, root, data) {
    super(model, root, STYLE);
    this.data = data;
    this.urls = data.pictures.map(({ url }) => url);
    const [m, n, K, L] = data.grid;
    this.query = this.makeSide("query", [K, L], data.pictures[0]);
    this.target = this.makeSide("target", [m, n], data.pictures[1]);
    this.select = element("select", {}, ...data.views.map(({ name }, number) =>
      element("option", { value: number }, name)));
    this.select.addEventListener("change", () => this.update({ view: Number(this.select.value) }));
    this.truth = element("input", { type: "checkbox" });
    this.truth.addEventListener("change", () => this.update({ truth: this.truth.checked }));
    this.readout = element("p", { class: "status readout", role: "status", "aria-live": "polite" });
    root.append(
      element("div", { class: "row" }, element("label", {}, "view", this.select),
        button("go to the best (i, j)", () => this.update({ target: this.best("target") })),
        button("and back: the best (k, l)", () => this.update({ query: this.best("query") })),
        ...(data.truth ? [element("label", {}, this.truth, "true partner")] : [])),
      element("div", { class: "stage" }, this.query.figure, this.target.figure),
      this.readout, element("p", { class: "keys", id: "keys" }, KEYS),
    );
    this.listen(STATE, () => this.showSoon());
    this.show();
  }

  makeSide(name, grid, { url, name: title, size: [height, width] }) {
    const [down, across] = AXES[name], [rows, columns] = grid;
    const image = element("img", { src: url, alt: `${name}: ${title}`, draggable: "false", width, height });
    const canvas = element("canvas", { "aria-hidden": "true" });
    const svg = svgElement("svg", { viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none",
      "aria-hidden": "true" });
    const pad = element("div", { class: "pad", tabindex: 0, role: "application", "data-side": name,
      "aria-label": `${name}: ${rows} rows ${down}, ${columns} columns ${across}`,
      "aria-describedby": "keys" }, image, canvas, svg);
    const ticks = (count) => Array.from({ length: count }, (_, at) =>
      element("span", {}, count > 10 && at % 2 ? "" : String(at)));
    const axis = (kind, label, count) => element("div", { class: `axis ${kind}`, "aria-hidden": "true" },
      element("i", {}, label), ...ticks(count));
    const figure = element("figure", {}, element("figcaption", {}, `${name}: ${title}`),
      element("div", { class: "framed" }, axis("across", `${across} →`, columns),
        axis("down", `${down}↓`, rows), pad));
    const go = (place) => this.update({ [name]: place.map((at, a) => clamp(Math.floor(at), 0, grid[a] - 1)) });
    const point = (event) => go(positionIn(pad, event).map((place, a) => place * grid[a]));
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      point(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) point(event);
    });
    pad.addEventListener("keydown", (event) => {
      const step = arrowStep(event);
      if (!step) return;
      consume(event);
      go(this.model.get(name).map((at, a) => at + step[a]));
    });
    return { name, grid, image, canvas, svg, figure };
  }

  get view() {
    return this.data.views[this.model.get("view")];
  }

  sliceOver(side) {
    return sliceOf(this.view.values, this.data.grid, side, this.model.get(side === "target" ? "query" : "target"));
  }

  /** Where a slice is highest; the first of equal ones. */
  best(side) {
    const slice = this.sliceOver(side), columns = this[side].grid[1];
    const at = slice.indexOf(Math.max(...slice));
    return [Math.floor(at / columns), at % columns];
  }

  show() {
    const truth = this.model.get("truth") ? this.data.truth : null;
    const query = this.model.get("query"), partner = truth?.[query[0] * this.query.grid[1] + query[1]];
    this.select.value = this.model.get("view");
    this.truth.checked = this.model.get("truth");
    for (const side of [this.query, this.target]) {
      const slice = this.sliceOver(side.name);
      paintHeat(side.canvas, Array.from(slice, (value) => value / this.data.levels), side.grid);
      const box = ([y, x]) => ({ x, y, width: 1, height: 1 });
      side.svg.replaceChildren(...cased("rect", box(this.model.get(side.name)), "box"),
        ...(partner && side === this.target ? cased("rect", box(partner), "true") : []));
    }
    this.readout.textContent = this.summary(partner, truth);
  }

  amount(value) {
    return value ? ((value * this.view.high) / this.data.levels).toFixed(1) : "0 or below";
  }

  summary(partner, truth) {
    const [target, query] = ["target", "query"].map((name) => this.model.get(name));
    const best = { target: this.best("target"), query: this.best("query") };
    const valueAt = ([i, j], [k, l]) => sliceOf(this.view.values, this.data.grid, "target", [k, l])[
      i * this.target.grid[1] + j];
    const at = (name) => `(${best[name].join(", ")}): ${this.amount(
      valueAt(name === "target" ? best.target : target, name === "query" ? best.query : query))}`;
    const mutual = String(best.target) === String(target) && String(best.query) === String(query);
    const words = partner ? ` The true partner of query patch (${query.join(", ")}) is (${partner.join(", ")}).`
      : truth ? " This query patch has no true partner." : "";
    return `R[${[...target, ...query].join(", ")}] = ${this.amount(valueAt(target, query))}. ` +
      `R[:, :, ${query.join(", ")}] is highest at (i, j) = ${at("target")}; ` +
      `R[${target.join(", ")}, :, :] at (k, l) = ${at("query")}.` +
      (mutual ? " Each is the other's best: a mutual match." : "") + words;
  }
}

const { render, renderPage } = defineWidget("slices", async (model, root) => {
  const slices = new Slices(model, root, await unpackSlices(model.get("payload")));
  await Promise.all([slices.query, slices.target].map(({ image }) => image.decode()));
  return slices;
});

export default { render };
