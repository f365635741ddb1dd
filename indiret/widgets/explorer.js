// The evidence explorer: two pictures with their grids, and a strip of candidates if there are
// several. Names are the notation's: target (i, j), query (k, l).

const GAP = 28; // between the pictures, px
const TALLEST = 400; // of a picture, px; payload.py packs no larger ones
const TALLEST_ABOVE = 340; // where both have to fit on a telephone
const NARROW = 560; // a narrower explorer puts one picture above the other
const OPACITY = 0.8; // of the heat, over the photo
const STATE = ["opened", "channel", "pairs", "truth", "pinned"];
const KEYS =
  "Arrow keys move over the patches, Enter pins a patch or lets it go, Escape resets. " +
  "Places are row, column, counted from 0.";

const STYLE = `
fieldset { border: 0; margin: 0 0 .45rem; padding: 0; min-width: 0; display: flex;
  gap: .3rem; align-items: baseline; }
legend { float: left; padding: 0; flex: none; width: 3em; opacity: .75; }
.choices { display: flex; flex-wrap: wrap; gap: .3rem; min-width: 0; }
.sr { position: absolute; opacity: 0; pointer-events: none; }
.choice { position: relative; cursor: pointer; }
.choice span { display: block; padding: .22rem .65rem; border: 1px solid var(--line);
  border-radius: 1rem; overflow-wrap: anywhere; }
.choice:hover span { border-color: currentColor; }
.choice :checked + span { background: var(--accent); border-color: var(--accent);
  color: var(--ink); }
.choice :focus-visible + span, .choice :focus-visible + figure {
  outline: 3px solid #2f7de1; outline-offset: 2px; }
.candidates .choices { flex-wrap: nowrap; overflow-x: auto; padding: .3rem; }
.candidates legend { position: absolute; opacity: 0; }
.candidates .choice { flex: none; }
.candidates figure { padding: .25rem; border: 2px solid transparent; border-radius: .5rem; }
.candidates .choice:hover figure { border-color: var(--line); }
.candidates :checked + figure { border-color: var(--accent); }
.candidates img { display: block; height: 6rem; min-width: 100%; max-width: 11rem; object-fit: cover;
  border-radius: .25rem; }
.candidates figcaption { max-width: 11rem; margin-top: .2rem; text-align: center; white-space: pre-line;
  border-radius: .25rem; }
.right { background: #177a4f; color: #fff; } .wrong { background: #b3402e; color: #fff; }
.right, .wrong { padding: 0 .4rem; print-color-adjust: exact; }
.stage { position: relative; display: flex; gap: ${GAP}px; justify-content: center; }
.stage.tall { flex-direction: column; align-items: center; }
.tall .side + .side { display: flex; flex-direction: column-reverse; } /* no line over a name */
.side { max-width: 100%; } /* a page made narrow must not scroll, not even until fit() runs */
.side figcaption { display: flex; flex-wrap: wrap; gap: .6rem; justify-content: space-between; height: 1.6em; }
.side figcaption span:first-child { overflow: hidden; text-overflow: ellipsis; }
.pad { cursor: crosshair; touch-action: pan-y; overflow: hidden; }
.pad img { position: absolute; inset: 0; width: 100%; height: 100%; }
.pad canvas { image-rendering: pixelated; }
.pad.hot img { filter: grayscale(.65) brightness(.82); }
.grid { stroke: #fff; stroke-opacity: .22; stroke-width: 1; fill: none; }
.pair { stroke: var(--accent); stroke-linecap: round; }
.pair.good { stroke: var(--good); } .pair.bad { stroke: var(--bad); stroke-dasharray: 5 5; }
.end { fill: var(--accent); stroke: var(--ink); }
.box { fill: none; stroke: #fff; stroke-width: 2; }
.box.pinned { stroke: var(--accent); stroke-width: 3; }
.box.true { stroke: var(--good); stroke-width: 3; } .box.hovered { stroke-dasharray: 3 2; }
.true-patch { stroke: var(--ink); stroke-width: 1; }
.controls { column-gap: 1.2rem; margin-top: .6rem; }
input[type=range] { width: 9rem; }
.count { min-width: 1.4em; font-variant-numeric: tabular-nums; }
.tall + .status { min-height: 4.35em; }
`;

/** Radio buttons, one for each label; `choose` is given the number of the one chosen. */
function choices(legend, labels, choose) {
  const list = element("div", { class: "choices" });
  labels.forEach((label, number) => {
    const input = element("input", { type: "radio", name: legend, class: "sr" });
    input.addEventListener("change", () => choose(number));
    list.append(element("label", { class: "choice" }, input, label));
  });
  return element("fieldset", { class: legend }, element("legend", {}, legend), list);
}

function thumbnail({ name, caption, relevant, url }) {
  const mark = { true: " ✓", false: " ✗" }[relevant] ?? "";
  const verdict = { true: "right", false: "wrong" }[relevant] ?? "";
  return element("figure", {},
    element("img", { src: url, alt: `${name} ${verdict}`.trim() }),
    element("figcaption", { class: verdict }, `${caption}${mark}`));
}

class Explorer extends View {
  constructor(model, root, data) {
    super(model, root, STYLE);
    this.data = data;
    this.hovered = null;
    this.width = 0;
    this.urls = [data.query, ...data.candidates].map(({ url }) => url);
    this.queryPatches = data.query.grid[0] * data.query.grid[1];
    this.candidates =
      choices("candidates", data.candidates.map(thumbnail), (number) => this.open(number));
    this.candidates.hidden = data.candidates.length === 1;
    this.channels = element("div");
    this.query = this.makeSide("query");
    this.target = this.makeSide("target");
    this.lines = svgElement("svg", { "aria-hidden": "true" });
    this.stage = element("div", { class: "stage" }, this.query.figure, this.target.figure, this.lines);
    this.readout = element("p", { class: "status readout", role: "status", "aria-live": "polite" });
    this.slider = element("input", { type: "range", min: 0, max: MOST_PAIRS });
    this.count = element("span", { class: "count" });
    this.truth = element("input", { type: "checkbox" });
    this.truthLabel = element("label", {}, this.truth, "true correspondence");
    this.slider.addEventListener("input", () => this.update({ pairs: Number(this.slider.value) }));
    this.truth.addEventListener("change", () => this.update({ truth: this.truth.checked }));
    root.append(
      this.candidates, this.channels, this.stage, this.readout,
      element("div", { class: "row controls" },
        element("label", {}, "pairs", this.slider, this.count), this.truthLabel,
        button("reset", () => this.reset())),
      element("p", { class: "keys", id: "keys" }, KEYS),
    );
    this.start = Object.fromEntries(
      ["channel", "pairs", "truth"].map((name) => [name, model.get(name)]),
    );
    this.listen(STATE, () => this.showSoon());
    this.observeWidth();
    this.show();
  }

  makeSide(name) {
    const side = { name, cursor: 0, grid: this.data.query.grid, caption: element("figcaption") };
    side.image = element("img", { draggable: "false" });
    side.canvas = element("canvas", { "aria-hidden": "true" });
    side.pad = element("div", {
      class: "pad", tabindex: 0, role: "application", "aria-roledescription": "grid of patches",
      "aria-describedby": "keys", "data-side": name,
    }, side.image, side.canvas);
    side.figure = element("figure", { class: "side" }, side.caption, side.pad);
    const patchAt = (event) => {
      const [row, column] = positionIn(side.pad, event).map((place, axis) =>
        clamp(Math.floor(place * side.grid[axis]), 0, side.grid[axis] - 1));
      return row * side.grid[1] + column;
    };
    const hover = (event) => this.hover(side, patchAt(event));
    side.pad.addEventListener("pointerdown", hover);
    side.pad.addEventListener("pointermove", hover);
    side.pad.addEventListener("click", (event) => this.pin(side, patchAt(event)));
    for (const leave of ["pointerleave", "pointercancel", "blur"]) {
      side.pad.addEventListener(leave, () => this.hover(side, null));
    }
    side.pad.addEventListener("focus", () => {
      if (side.pad.matches(":focus-visible")) this.hover(side, side.cursor);
    });
    side.pad.addEventListener("keydown", (event) => this.press(side, event));
    return side;
  }

  press(side, event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = arrowStep(event);
    if (step) {
      const [, row, column] = this.placeOf(side, side.cursor), [rows, columns] = side.grid;
      this.hover(side, clamp(row + step[0], 0, rows - 1) * columns + clamp(column + step[1], 0, columns - 1));
    } else if (event.key === "Enter" || event.key === " ") this.pin(side, side.cursor);
    else if (event.key === "Escape") this.reset();
    else return;
    consume(event);
  }

  /** The patch pointed at, or none. */
  hover(side, patch) {
    const place = patch === null ? null : this.placeOf(side, patch);
    if (patch === null && this.hovered?.[0] !== side.name) return;
    if (patch !== null) side.cursor = patch;
    if (String(place) === String(this.hovered)) return;
    this.hovered = place;
    this.model.set("hovered", place);
    this.model.save_changes();
    this.paint();
  }

  pin(side, patch) {
    const place = this.placeOf(side, patch);
    this.update({ pinned: String(place) === String(this.model.get("pinned")) ? null : place });
  }

  reset() {
    this.update({ ...this.start, pinned: null });
  }

  open(number) {
    const pinned = this.model.get("pinned"); // a patch of the query may be asked of every candidate
    this.update({ opened: number, pinned: pinned?.[0] === "query" ? pinned : null });
  }

  placeOf(side, patch) {
    return [side.name, Math.floor(patch / side.grid[1]), patch % side.grid[1]];
  }

  /** [side, row, column] → {side, patch}; null where it is outside the grid. */
  patchOf(place) {
    if (!place) return null;
    const [name, row, column] = place, side = this[name];
    return row < side.grid[0] && column < side.grid[1]
      ? { side, patch: row * side.grid[1] + column } : null;
  }

  other(side) {
    return side === this.query ? this.target : this.query;
  }

  /** Everything anew, from the model's state. */
  show() {
    const { candidates } = this.data, opened = this.model.get("opened");
    this.candidate = candidates[opened];
    this.channel = this.findChannel(...this.model.get("channel"));
    this.candidates.querySelectorAll("input")[opened].checked = true;
    this.showChannels();
    this.showPicture(this.query, this.data.query);
    this.showPicture(this.target, this.candidate);
    this.slider.value = this.count.textContent = this.model.get("pairs");
    this.truth.checked = this.model.get("truth");
    this.truthLabel.hidden = !this.candidate.true_matches;
    this.width = 0;
    this.fit();
  }

  inGroup(group) {
    return this.candidate.channels.filter((channel) => channel.group === group);
  }

  /** The channel of this group and name, or the group's first. */
  findChannel(group, name) {
    const known = this.inGroup(group);
    return known.find((channel) => channel.name === name) ?? known[0];
  }

  showChannels() {
    const { group, name } = this.channel;
    const groups = [...new Set(this.candidate.channels.map((channel) => channel.group))];
    const names = this.inGroup(group).map((channel) => channel.name);
    const offered = JSON.stringify([groups, names]);
    if (offered !== this.offered) {
      const at = [...this.channels.querySelectorAll("input")].indexOf(this.root.activeElement);
      const chips = (texts) => texts.map((text) => element("span", {}, text));
      const choose = (...chosen) => {
        const channel = this.findChannel(...chosen);
        this.update({ channel: [channel.group, channel.name] });
      };
      this.channels.replaceChildren(
        choices("show", chips(groups), (n) => choose(groups[n], this.channel.name)),
        choices("of", chips(names), (n) => choose(this.channel.group, names[n])),
      );
      [this.channels.firstChild.hidden, this.channels.lastChild.hidden] =
        [groups.length === 1, names.length === 1];
      this.channels.querySelectorAll("input")[at]?.focus({ preventScroll: true });
      this.offered = offered;
    }
    const inputs = this.channels.querySelectorAll("input");
    inputs[groups.indexOf(group)].checked = true;
    inputs[groups.length + names.indexOf(name)].checked = true;
  }

  showPicture(side, picture) {
    const [rows, columns] = (side.grid = picture.grid);
    side.cursor = Math.min(side.cursor, rows * columns - 1);
    side.size = picture.size;
    side.caption.replaceChildren(
      element("span", {}, `${side.name}: ${picture.name}`),
      element("span", {}, `${rows} × ${columns} patches`));
    side.caption.title = picture.name;
    if (side.image.src !== picture.url) side.image.src = picture.url;
    side.image.alt = `${side.name}, ${picture.name}`;
    side.pad.setAttribute(
      "aria-label", `${side.name}, ${picture.name}: ${rows} rows of ${columns} patches`);
  }

  /** Both pictures as large as the width allows: side by side, or one above the other. */
  fit() {
    const width = this.root.host.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    const sides = [this.query, this.target], tall = width < NARROW;
    const aspects = sides.map(({ size: [height, across] }) => across / height);
    const shared = (width - GAP) / (aspects[0] + aspects[1]);
    this.stage.classList.toggle("tall", tall);
    sides.forEach((side, number) => {
      const height = tall
        ? Math.min(TALLEST_ABOVE, width / aspects[number]) : Math.min(TALLEST, shared);
      side.pad.style.height = `${height}px`;
      side.pad.style.width = side.figure.style.width = `${height * aspects[number]}px`;
    });
    this.paint();
  }

  paint() {
    const pinned = this.patchOf(this.model.get("pinned")), hovered = this.patchOf(this.hovered);
    const active = pinned ?? hovered, { channel, queryPatches } = this;
    let joined;
    if (active) {
      const other = this.other(active.side);
      const bytes = valuesOfPatch(channel, active.side.name, active.patch, queryPatches);
      joined = strongest(bytes, channel.strength).map((patch) => ({
        [active.side.name]: active.patch, [other.name]: patch, value: bytes[patch],
      }));
      this.paintMap(active.side, null);
      this.paintMap(other, Float64Array.from(bytes, (value) => channel.strength[value]));
    } else {
      joined = bestMatches(channel, queryPatches);
      const maps = sideMaps(channel, queryPatches);
      this.paintMap(this.query, maps.query);
      this.paintMap(this.target, maps.target);
    }
    const truth = this.model.get("truth") ? this.candidate.true_matches : null;
    this.drawLines(joined.slice(0, this.model.get("pairs")), truth, active, pinned, hovered);
    this.readout.textContent = active
      ? this.summaryOfPatch(joined, truth, active, pinned, hovered) : this.summary(joined, truth);
  }

  paintMap(side, map) {
    side.pad.classList.toggle("hot", map !== null);
    paintHeat(side.canvas, map, side.grid, OPACITY);
  }

  /** Whether a pair is within one patch of the true match. */
  isRight({ query, target }) {
    const match = this.candidate.true_matches[query], columns = this.target.grid[1];
    if (match < 0) return false;
    const rows = Math.abs(Math.floor(match / columns) - Math.floor(target / columns));
    return Math.max(rows, Math.abs((match % columns) - (target % columns))) <= 1;
  }

  box(side, patch) {
    const [rows, columns] = side.grid, { pad } = side;
    const width = pad.clientWidth / columns, height = pad.clientHeight / rows;
    return {
      x: pad.offsetLeft + (patch % columns) * width,
      y: pad.offsetTop + Math.floor(patch / columns) * height, width, height,
    };
  }

  centre(side, patch) {
    const { x, y, width, height } = this.box(side, patch);
    return [x + width / 2, y + height / 2];
  }

  drawLines(joined, truth, active, pinned, hovered) {
    const drawn = [this.query, this.target].map((side) => this.gridLines(side));
    truth?.forEach((match, patch) => {
      if (match >= 0) drawn.push(...this.truePatches(patch, match));
    });
    const ends = [];
    for (const pair of joined.toReversed()) {
      const [x1, y1] = this.centre(this.query, pair.query);
      const [x2, y2] = this.centre(this.target, pair.target);
      const kind = truth ? (this.isRight(pair) ? "pair good" : "pair bad") : "pair";
      const line = { x1, y1, x2, y2, "data-query": pair.query, "data-target": pair.target };
      drawn.push(...cased("line", line, kind, 0.8 + 2.2 * this.channel.strength[pair.value]));
      ends.push(svgElement("circle", { class: "end", cx: x1, cy: y1, r: 3 }));
      ends.push(svgElement("circle", { class: "end", cx: x2, cy: y2, r: 3 }));
    }
    drawn.push(...ends);
    const outline = ({ side, patch }, kind) => drawn.push(...cased("rect", {
      ...this.box(side, patch), rx: 2, "data-side": side.name, "data-patch": patch,
    }, `box ${kind}`));
    if (active && truth) {
      const side = this.other(active.side);
      this.trueMatchesOf(active, truth).forEach((patch) => outline({ side, patch }, "true"));
    }
    if (hovered) outline(hovered, pinned ? "hovered" : "active");
    if (pinned) outline(pinned, "pinned");
    this.lines.replaceChildren(...drawn);
  }

  gridLines(side) {
    const [rows, columns] = side.grid, { x, y, width, height } = this.box(side, 0);
    let path = "";
    for (let r = 1; r < rows; r++) path += `M${x} ${y + r * height}h${columns * width}`;
    for (let c = 1; c < columns; c++) path += `M${x + c * width} ${y}v${rows * height}`;
    return svgElement("path", { class: "grid", d: path });
  }

  /** A query patch and its true match, in a colour of their place in the query. */
  truePatches(patch, match) {
    const [rows, columns] = this.query.grid;
    const hue = (300 * (patch % columns)) / columns;
    const light = 35 + (45 * Math.floor(patch / columns)) / rows;
    return [[this.query, patch], [this.target, match]].map(([side, place]) => {
      const [cx, cy] = this.centre(side, place), fill = `hsl(${hue} 85% ${light}%)`;
      return svgElement("circle", { class: "true-patch", cx, cy, r: 3.5, fill });
    });
  }

  trueMatchesOf({ side, patch }, truth) {
    if (side === this.query) return truth[patch] < 0 ? [] : [truth[patch]];
    return [...truth.keys()].filter((query) => truth[query] === patch);
  }

  /** What maps and lines show, in words. */
  summary(joined, truth) {
    if (!joined.length) return "No pair of patches spoke for a match.";
    const shown = joined.slice(0, this.model.get("pairs"));
    const { lines, crossings, onPlane } = linePattern(shown, this.query, this.target);
    const seen = [onPlane < Math.min(3, lines) ? "no three span a plane" : `${onPlane} on one plane`,
      `${crossings} crossing${crossings === 1 ? "" : "s"}`];
    if (truth) seen.push(`${shown.filter((pair) => this.isRight(pair)).length} right, within one patch`);
    return `The ${lines} strongest pairs: ${seen.join(", ")}. Point at a patch of either picture.`;
  }

  summaryOfPatch(joined, truth, active, pinned, hovered) {
    const place = (side, patch) => `${side.name} (${this.placeOf(side, patch).slice(1).join(", ")})`;
    const other = this.other(active.side);
    let text = place(active.side, active.patch) + (pinned ? ", pinned" : "");
    if (pinned && hovered?.side === other) {
      const pair = { [pinned.side.name]: pinned.patch, [other.name]: hovered.patch };
      const value = this.channel.values[pair.target * this.queryPatches + pair.query];
      text += ` × ${place(other, hovered.patch)}: ${this.amount(value)}`;
    } else if (joined.length) {
      const [best] = joined;
      text += ` → ${place(other, best[other.name])}: ${this.amount(best.value)}`;
    } else text += ": nothing answers";
    if (truth) {
      const places = this.trueMatchesOf(active, truth).map((patch) => place(other, patch));
      text += places.length ? `. True match: ${places.join(", ")}` : ". It has no true match";
    }
    return `${text}.`;
  }

  amount(value) {
    const { low, real, strength } = this.channel;
    return low < 0 ? `similarity ${real[value].toFixed(1)}, the pair's highest is ${
      this.channel.high.toFixed(1)}` : `${Math.round(100 * strength[value])} % of the strongest pair`;
  }
}
