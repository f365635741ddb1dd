// The evidence explorer. payload.py packs what is unpacked here; explorer.py inlines this module
// in a page or hands it to a live notebook. Names are the notation's: target (i, j), query (k, l).

const GAP = 28; // between the pictures, px
const TALLEST = 400; // of a picture, px; payload.py packs no larger ones
const TALLEST_ABOVE = 340; // where both have to fit on a telephone
const NARROW = 560; // a narrower explorer puts one picture above the other
const MOST_PAIRS = 30; // on the slider
const OPACITY = 0.8, FADE = 0.75; // faint evidence stays visible, and the photo under strong
// matplotlib's inferno from 0.25 to 0.9, as in indiret.figures.overlay
const HEAT = [
  [87, 16, 110], [130, 32, 108], [174, 48, 92], [213, 74, 65],
  [240, 111, 32], [252, 161, 8], [246, 215, 70],
];
const STATE = ["opened", "channel", "pairs", "truth", "pinned"];
const KEYS =
  "Arrow keys move over the patches, Enter pins a patch or lets it go, Escape resets. " +
  "Places are row, column, counted from 0.";

const STYLE = `
:host { display: block; font-size: 15px; line-height: 1.45; text-align: left;
  --line: color-mix(in srgb, currentColor 26%, transparent); --accent: #ffb000; --ink: #22252b; }
* { box-sizing: border-box; }
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
.choice :focus-visible + span, .choice :focus-visible + figure, .pad:focus-visible,
button:focus-visible { outline: 3px solid #2f7de1; outline-offset: 2px; }
.answers .choices { flex-wrap: nowrap; overflow-x: auto; padding: .3rem; }
.answers legend { position: absolute; opacity: 0; }
.answers .choice { flex: none; }
.answers figure { margin: 0; padding: .25rem; border: 2px solid transparent; border-radius: .5rem; }
.answers .choice:hover figure { border-color: var(--line); }
.answers :checked + figure { border-color: var(--accent); }
.answers img { display: block; height: 5.2rem; border-radius: .25rem; }
.answers figcaption { text-align: center; }
.answers figcaption { border-radius: .25rem; margin-top: .2rem; }
.right { background: #177a4f; color: #fff; } .wrong { background: #b3402e; color: #fff; }
.stage { position: relative; display: flex; gap: ${GAP}px; justify-content: center; }
.stage.tall { flex-direction: column; align-items: center; }
.tall .side + .side { display: flex; flex-direction: column-reverse; } /* no line over a name */
.side { margin: 0; min-width: 0; }
.side, .pad { max-width: 100%; } /* a page made narrow must not scroll, not even until fit() runs */
.side figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  padding-bottom: .15rem; }
.pad { position: relative; cursor: crosshair; touch-action: pan-y; user-select: none;
  -webkit-user-select: none; -webkit-tap-highlight-color: transparent; border-radius: 4px;
  overflow: hidden; }
.pad img, .pad canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.pad canvas { image-rendering: pixelated; }
.pad.hot img { filter: grayscale(.65) brightness(.82); }
.stage svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.grid { stroke: #fff; stroke-opacity: .22; stroke-width: 1; fill: none; }
.casing { stroke: var(--ink); stroke-linecap: round; }
.pair { stroke: var(--accent); stroke-linecap: round; }
.pair.good { stroke: #35d08f; } .pair.bad { stroke: #ff6f55; stroke-dasharray: 5 5; }
.end { fill: var(--accent); stroke: var(--ink); }
.box { fill: none; stroke: #fff; stroke-width: 2; } .box.under { stroke: var(--ink);
  stroke-width: 4.5; } .box.pinned { stroke: var(--accent); stroke-width: 3; }
.box.partner { stroke: #35d08f; stroke-width: 3; } .box.looked { stroke-dasharray: 3 2; }
.true { stroke: var(--ink); stroke-width: 1; }
.controls { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center;
  margin-top: .6rem; }
.controls label { display: flex; gap: .45rem; align-items: center; cursor: pointer; }
input { accent-color: var(--accent); } input[type=range] { width: 9rem; }
.count { min-width: 1.4em; font-variant-numeric: tabular-nums; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: .4rem; padding: .2rem .8rem; cursor: pointer; }
button:hover { border-color: currentColor; }
.readout { margin: .5rem 0 0; min-height: 1.45em; font-variant-numeric: tabular-nums; }
.tall + .readout { min-height: 4.35em; }
.keys { margin: 0; font-size: 13px; opacity: .75; }
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

/** Bytes of payload.pack → {query, answers}, each channel with its values and a strength 0 … 1. */
async function unpack(bytes) {
  const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(whole).arrayBuffer();
  let at = 0;
  const take = (length) => new Uint8Array(buffer, (at += length) - length, length);
  const headerLength = new DataView(buffer).getUint32(0, true);
  take(4);
  const data = JSON.parse(new TextDecoder().decode(take(headerLength)));
  const photo = (picture) => {
    picture.url = URL.createObjectURL(new Blob([take(picture.jpeg)], { type: "image/jpeg" }));
  };
  photo(data.query);
  for (const answer of data.answers) {
    photo(answer);
    const length = [...answer.grid, ...data.query.grid].reduce((a, b) => a * b);
    for (const channel of answer.channels) {
      const { low, high } = channel;
      channel.values = take(length);
      channel.real = Float64Array.from({ length: 256 }, (_, v) => low + ((high - low) * v) / 255);
      channel.strength = channel.real.map((real) => (high > 0 ? Math.max(0, real / high) : 0));
    }
  }
  return data;
}

/** Strongest first; equal ones in order of place, as numpy's argmax has it. */
function strongest(values, strength) {
  return [...values.keys()]
    .filter((place) => strength[values[place]] > 0)
    .sort((a, b) => values[b] - values[a] || a - b);
}

/** As Evidence.matches: every target and every query patch is used once at most. */
function matches(channel, queryPatches) {
  if (!channel.matches) {
    const targets = new Set(), queries = new Set();
    channel.matches = [];
    for (const place of strongest(channel.values, channel.strength)) {
      const target = Math.floor(place / queryPatches), query = place % queryPatches;
      if (targets.has(target) || queries.has(query)) continue;
      targets.add(target);
      queries.add(query);
      channel.matches.push({ target, query, value: channel.values[place] });
      if (channel.matches.length === MOST_PAIRS) break;
    }
  }
  return channel.matches;
}

/** Answers of all patches of the other side to one patch, as bytes. */
function answersTo(channel, side, patch, queryPatches) {
  const { values } = channel;
  if (side === "target") return values.subarray(patch * queryPatches, (patch + 1) * queryPatches);
  return Uint8Array.from(
    { length: values.length / queryPatches }, (_, t) => values[t * queryPatches + patch],
  );
}

/** Maps over both pictures: sums of evidence (Eq. 4); of a view, the best answer of each patch. */
function wholeMaps(channel, queryPatches) {
  if (!channel.maps) {
    const target = new Float64Array(channel.values.length / queryPatches);
    const query = new Float64Array(queryPatches);
    const signed = channel.low < 0;
    channel.values.forEach((value, place) => {
      const t = Math.floor(place / queryPatches), q = place % queryPatches;
      const strength = channel.strength[value];
      target[t] = signed ? Math.max(target[t], strength) : target[t] + strength;
      query[q] = signed ? Math.max(query[q], strength) : query[q] + strength;
    });
    const scaled = (map) => map.map((value) => value / (Math.max(...map) || 1));
    channel.maps = { target: scaled(target), query: scaled(query) };
  }
  return channel.maps;
}

/** Lay 0 … 1 over a picture, a canvas pixel for each patch; null leaves the picture as it is. */
function heat(side, map) {
  const [rows, columns] = side.grid;
  side.canvas.width = columns;
  side.canvas.height = rows;
  side.pad.classList.toggle("hot", map !== null);
  if (map === null) return;
  const image = new ImageData(columns, rows);
  map.forEach((value, patch) => {
    const place = value * (HEAT.length - 1), stop = Math.min(Math.floor(place), HEAT.length - 2);
    for (let c = 0; c < 3; c++) {
      image.data[4 * patch + c] = HEAT[stop][c] + (place - stop) * (HEAT[stop + 1][c] - HEAT[stop][c]);
    }
    image.data[4 * patch + 3] = Math.round(255 * OPACITY * value ** FADE);
  });
  side.canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Radio buttons, one for each look; `choose` is given the number of the one chosen. */
function choices(legend, looks, choose) {
  const list = make("div", { class: "choices" });
  looks.forEach((look, number) => {
    const input = make("input", { type: "radio", name: legend, class: "sr" });
    input.addEventListener("change", () => choose(number));
    list.append(make("label", { class: "choice" }, input, look));
  });
  return make("fieldset", { class: legend }, make("legend", {}, legend), list);
}

function thumbnail(answer) {
  const mark = { true: " ✓", false: " ✗" }[answer.right] ?? "";
  const about = { true: "right", false: "wrong" }[answer.right] ?? "";
  const caption = make("figcaption", { class: about }, `${answer.caption}${mark}`);
  const image = make("img", { src: answer.url, alt: `${answer.name} ${about}`.trim() });
  return make("figure", {}, image, caption);
}

class Explorer {
  constructor(model, root, data) {
    Object.assign(this, { model, root, data, hovered: null, width: 0 });
    this.queryPatches = data.query.grid[0] * data.query.grid[1];
    this.answers = choices("answers", data.answers.map(thumbnail), (number) => this.open(number));
    this.answers.hidden = data.answers.length === 1;
    this.channels = make("div");
    this.query = this.makeSide("query");
    this.target = this.makeSide("target");
    this.lines = draw("svg", { "aria-hidden": "true" });
    this.stage = make("div", { class: "stage" }, this.query.figure, this.target.figure, this.lines);
    this.readout = make("p", { class: "readout", role: "status", "aria-live": "polite" });
    this.slider = make("input", { type: "range", min: 0, max: MOST_PAIRS });
    this.count = make("span", { class: "count" });
    this.truth = make("input", { type: "checkbox" });
    this.truthLabel = make("label", {}, this.truth, "true correspondence");
    this.slider.addEventListener("input", () => this.tell({ pairs: Number(this.slider.value) }));
    this.truth.addEventListener("change", () => this.tell({ truth: this.truth.checked }));
    const reset = make("button", { type: "button" }, "reset");
    reset.addEventListener("click", () => this.reset());
    root.append(
      make("style", {}, STYLE), this.answers, this.channels, this.stage, this.readout,
      make("div", { class: "controls" },
        make("label", {}, "pairs", this.slider, this.count), this.truthLabel, reset),
      make("p", { class: "keys", id: "keys" }, KEYS),
    );
    this.start = Object.fromEntries(
      ["channel", "pairs", "truth"].map((name) => [name, model.get(name)]),
    );
    this.changed = () => this.showSoon();
    STATE.forEach((name) => model.on(`change:${name}`, this.changed));
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(root.host);
    this.show();
  }

  remove() {
    this.observer.disconnect();
    STATE.forEach((name) => this.model.off(`change:${name}`, this.changed));
    [this.data.query, ...this.data.answers].forEach(({ url }) => URL.revokeObjectURL(url));
  }

  makeSide(name) {
    const side = { name, cursor: 0, grid: this.data.query.grid, caption: make("figcaption") };
    side.image = make("img", { draggable: "false" });
    side.canvas = make("canvas", { "aria-hidden": "true" });
    side.pad = make("div", {
      class: "pad", tabindex: 0, role: "application", "aria-roledescription": "grid of patches",
      "aria-describedby": "keys", "data-side": name,
    }, side.image, side.canvas);
    side.figure = make("figure", { class: "side" }, side.caption, side.pad);
    const at = (event) => {
      const box = side.pad.getBoundingClientRect(), [rows, columns] = side.grid;
      const cell = (place, count) => Math.min(count - 1, Math.max(0, Math.floor(place * count)));
      const column = cell((event.clientX - box.left) / box.width, columns);
      return cell((event.clientY - box.top) / box.height, rows) * columns + column;
    };
    const look = (event) => this.look(side, at(event));
    side.pad.addEventListener("pointerdown", look);
    side.pad.addEventListener("pointermove", look);
    side.pad.addEventListener("click", (event) => this.pin(side, at(event)));
    for (const leave of ["pointerleave", "pointercancel", "blur"]) {
      side.pad.addEventListener(leave, () => this.look(side, null));
    }
    side.pad.addEventListener("focus", () => {
      if (side.pad.matches(":focus-visible")) this.look(side, side.cursor);
    });
    side.pad.addEventListener("keydown", (event) => this.press(side, event));
    return side;
  }

  press(side, event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const [rows, columns] = side.grid;
    let row = Math.floor(side.cursor / columns), column = side.cursor % columns;
    if (event.key === "ArrowUp") row = Math.max(0, row - 1);
    else if (event.key === "ArrowDown") row = Math.min(rows - 1, row + 1);
    else if (event.key === "ArrowLeft") column = Math.max(0, column - 1);
    else if (event.key === "ArrowRight") column = Math.min(columns - 1, column + 1);
    else if (event.key === "Enter" || event.key === " ") this.pin(side, side.cursor);
    else if (event.key === "Escape") this.reset();
    else return;
    event.preventDefault(); // the page does not scroll
    event.stopPropagation(); // and the notebook or the book does not take the key
    if (event.key.startsWith("Arrow")) this.look(side, row * columns + column);
  }

  /** The patch pointed at, or none. */
  look(side, patch) {
    const seen = patch === null ? null : this.named(side, patch);
    if (patch === null && this.hovered?.[0] !== side.name) return;
    if (patch !== null) side.cursor = patch;
    if (String(seen) === String(this.hovered)) return;
    this.hovered = seen;
    this.model.set("hovered", seen);
    this.model.save_changes();
    this.paint();
  }

  pin(side, patch) {
    const place = this.named(side, patch);
    this.tell({ pinned: String(place) === String(this.model.get("pinned")) ? null : place });
  }

  reset() {
    this.tell({ ...this.start, pinned: null });
  }

  open(number) {
    const pinned = this.model.get("pinned"); // a patch of the query may be asked of every answer
    this.tell({ opened: number, pinned: pinned?.[0] === "query" ? pinned : null });
  }

  tell(changes) {
    Object.entries(changes).forEach(([name, value]) => this.model.set(name, value));
    this.model.save_changes();
    this.showSoon();
  }

  /** Once for all that changed together. */
  showSoon() {
    if (this.waiting) return;
    this.waiting = true;
    queueMicrotask(() => {
      this.waiting = false;
      this.show();
    });
  }

  named(side, patch) {
    return [side.name, Math.floor(patch / side.grid[1]), patch % side.grid[1]];
  }

  /** [side, row, column] → {side, patch}; null where it is outside the grid. */
  found(place) {
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
    const { answers } = this.data, opened = this.model.get("opened");
    this.answer = answers[opened];
    this.channel = this.find(...this.model.get("channel"));
    this.answers.querySelectorAll("input")[opened].checked = true;
    this.showChannels();
    this.set(this.query, this.data.query);
    this.set(this.target, this.answer);
    this.slider.value = this.count.textContent = this.model.get("pairs");
    this.truth.checked = this.model.get("truth");
    this.truthLabel.hidden = !this.answer.partners;
    this.width = 0;
    this.fit();
  }

  inGroup(group) {
    return this.answer.channels.filter((channel) => channel.group === group);
  }

  /** The channel of this group and name, or the group's first. */
  find(group, name) {
    const known = this.inGroup(group);
    return known.find((channel) => channel.name === name) ?? known[0];
  }

  showChannels() {
    const { group, name } = this.channel;
    const groups = [...new Set(this.answer.channels.map((channel) => channel.group))];
    const names = this.inGroup(group).map((channel) => channel.name);
    const offered = JSON.stringify([groups, names]);
    if (offered !== this.offered) {
      const at = [...this.channels.querySelectorAll("input")].indexOf(this.root.activeElement);
      const chips = (texts) => texts.map((text) => make("span", {}, text));
      const choose = (...chosen) => {
        const channel = this.find(...chosen);
        this.tell({ channel: [channel.group, channel.name] });
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

  set(side, picture) {
    const [rows, columns] = (side.grid = picture.grid);
    side.cursor = Math.min(side.cursor, rows * columns - 1);
    side.size = picture.size;
    side.caption.textContent = `${side.name}: ${picture.name}`;
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
    const pinned = this.found(this.model.get("pinned")), hovered = this.found(this.hovered);
    const active = pinned ?? hovered, pairs = this.model.get("pairs");
    let joined;
    if (active) {
      const other = this.other(active.side);
      const bytes = answersTo(this.channel, active.side.name, active.patch, this.queryPatches);
      joined = strongest(bytes, this.channel.strength).map((patch) => ({
        [active.side.name]: active.patch, [other.name]: patch, value: bytes[patch],
      }));
      heat(active.side, null);
      heat(other, Float64Array.from(bytes, (value) => this.channel.strength[value]));
    } else {
      joined = matches(this.channel, this.queryPatches);
      const maps = wholeMaps(this.channel, this.queryPatches);
      heat(this.query, maps.query);
      heat(this.target, maps.target);
    }
    const partners = this.model.get("truth") ? this.answer.partners : null;
    this.drawLines(joined.slice(0, pairs), partners, active, pinned, hovered);
    this.readout.textContent = this.told(joined, partners, active, pinned, hovered);
  }

  /** Whether a pair is within one patch of the true partner. */
  isRight({ query, target }) {
    const partner = this.answer.partners[query], columns = this.target.grid[1];
    if (partner < 0) return false;
    const rows = Math.abs(Math.floor(partner / columns) - Math.floor(target / columns));
    return Math.max(rows, Math.abs((partner % columns) - (target % columns))) <= 1;
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

  drawLines(joined, partners, active, pinned, hovered) {
    const drawn = [this.query, this.target].map((side) => {
      const [rows, columns] = side.grid, { x, y, width, height } = this.box(side, 0);
      let path = "";
      for (let r = 1; r < rows; r++) path += `M${x} ${y + r * height}h${columns * width}`;
      for (let c = 1; c < columns; c++) path += `M${x + c * width} ${y}v${rows * height}`;
      return draw("path", { class: "grid", d: path });
    });
    partners?.forEach((partner, patch) => {
      if (partner < 0) return;
      const [rows, columns] = this.query.grid;
      const hue = (300 * (patch % columns)) / columns;
      const light = 35 + (45 * Math.floor(patch / columns)) / rows;
      for (const [side, place] of [[this.query, patch], [this.target, partner]]) {
        const [cx, cy] = this.centre(side, place), color = `hsl(${hue} 85% ${light}%)`;
        drawn.push(draw("circle", { class: "true", cx, cy, r: 3.5, fill: color }));
      }
    });
    const ends = [];
    for (const pair of joined.toReversed()) {
      const [x1, y1] = this.centre(this.query, pair.query);
      const [x2, y2] = this.centre(this.target, pair.target);
      const width = 0.8 + 2.2 * this.channel.strength[pair.value];
      const judged = partners ? (this.isRight(pair) ? "good" : "bad") : "";
      const line = { x1, y1, x2, y2 };
      drawn.push(
        draw("line", { class: "casing", ...line, "stroke-width": width + 1.6 }),
        draw("line", { class: `pair ${judged}`.trim(), ...line, "stroke-width": width,
          "data-query": pair.query, "data-target": pair.target }),
      );
      ends.push(draw("circle", { class: "end", cx: x1, cy: y1, r: 3 }));
      ends.push(draw("circle", { class: "end", cx: x2, cy: y2, r: 3 }));
    }
    drawn.push(...ends);
    const outline = ({ side, patch }, kind) => {
      const box = { ...this.box(side, patch), rx: 2 };
      drawn.push(draw("rect", { class: "box under", ...box }),
        draw("rect", { class: `box ${kind}`, "data-side": side.name, "data-patch": patch, ...box }));
    };
    if (active && partners) {
      const other = this.other(active.side);
      this.partnersOf(active, partners).forEach((patch) => outline({ side: other, patch }, "partner"));
    }
    if (hovered) outline(hovered, pinned ? "looked" : "active");
    if (pinned) outline(pinned, "pinned");
    this.lines.replaceChildren(...drawn);
  }

  partnersOf({ side, patch }, partners) {
    if (side === this.query) return partners[patch] < 0 ? [] : [partners[patch]];
    return [...partners.keys()].filter((query) => partners[query] === patch);
  }

  /** What the picture shows, in words. */
  told(joined, partners, active, pinned, hovered) {
    if (!active) {
      const shown = Math.min(this.model.get("pairs"), joined.length);
      if (!joined.length) return "No pair of patches spoke for a match.";
      const right = joined.slice(0, shown).filter((pair) => partners && this.isRight(pair)).length;
      return `The ${shown} strongest pairs${
        partners ? `; ${right} of them right, within one patch` : ""}. Point at a patch of either picture.`;
    }
    const place = (side, patch) => `${side.name} (${this.named(side, patch).slice(1).join(", ")})`;
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
    if (partners) {
      const places = this.partnersOf(active, partners).map((patch) => place(other, patch));
      text += places.length ? `. True partner: ${places.join(", ")}` : ". It has no true partner";
    }
    return `${text}.`;
  }

  amount(value) {
    const { low, real, strength } = this.channel;
    return low < 0 ? `similarity ${real[value].toFixed(1)}, the pair's highest is ${
      this.channel.high.toFixed(1)}` : `${Math.round(100 * strength[value])} % of the strongest pair`;
  }
}

async function render({ model, el }) {
  const host = make("div", { "data-lm-suppress-shortcuts": "true" }); // JupyterLab's own keys
  el.append(host);
  const root = host.attachShadow({ mode: "open" });
  try {
    const { buffer, byteOffset, byteLength } = model.get("payload");
    const data = await unpack(new Uint8Array(buffer, byteOffset, byteLength));
    const explorer = new Explorer(model, root, data);
    await Promise.all([explorer.query, explorer.target].map(({ image }) => image.decode()));
    host.dataset.ready = Math.round(performance.now()); // ms since the page was asked for
    return () => explorer.remove();
  } catch (error) {
    root.append(`The evidence explorer cannot be shown: ${error.message}`);
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

/** Bring every explorer of this page to life, once. */
function renderPage() {
  for (const el of document.querySelectorAll(".indiret-explorer:not([data-alive])")) {
    el.dataset.alive = "";
    const payload = Uint8Array.from(atob(el.dataset.payload), (c) => c.charCodeAt(0));
    delete el.dataset.payload;
    const model = new PageModel({ ...JSON.parse(el.dataset.state), payload });
    render({ model, el });
  }
}

export default { render };
