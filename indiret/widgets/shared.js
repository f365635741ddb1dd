// What the widgets share: elements, heat maps, unpacking, state, and life in a page or a notebook.
// Python puts this source before the sources of one widget, so there is nothing to import.

const PALETTE = [ // matplotlib's inferno from 0.25 to 0.9, as in indiret.figures.overlay
  [87, 16, 110], [130, 32, 108], [174, 48, 92], [213, 74, 65],
  [240, 111, 32], [252, 161, 8], [246, 215, 70],
];
const FADE = 0.75; // faint evidence stays visible

const SHARED_STYLE = `
:host { display: block; font-size: 15px; line-height: 1.45; text-align: left;
  --line: color-mix(in srgb, currentColor 26%, transparent); --ink: #22252b; --accent: #ffb000;
  --good: #35d08f; --bad: #ff6f55; }
* { box-sizing: border-box; }
button, select { font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: .4rem; padding: .2rem .7rem; cursor: pointer; min-height: 28px; }
button:hover:not(:disabled) { border-color: currentColor; }
input { accent-color: var(--accent); min-width: 0; }
.pad:focus-visible, button:focus-visible, select:focus-visible, input:focus-visible {
  outline: 3px solid #2f7de1; outline-offset: 2px; }
.pad { position: relative; border-radius: 4px; max-width: 100%; user-select: none;
  -webkit-user-select: none; -webkit-tap-highlight-color: transparent; }
figure { margin: 0; min-width: 0; }
figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
svg, canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
svg * { vector-effect: non-scaling-stroke; }
.under { fill: none; stroke: var(--ink); stroke-width: 4.5; stroke-linecap: round; }
.row { display: flex; flex-wrap: wrap; gap: .4rem .6rem; align-items: center; }
.row label { display: flex; gap: .4rem; align-items: center; cursor: pointer; }
.status { margin: .5rem 0 0; min-height: 1.45em; font-variant-numeric: tabular-nums; }
.keys { margin: 0; font-size: .87em; opacity: .8; text-wrap: pretty; }
[hidden] { display: none !important; }
@media print { .row, .keys { display: none; } }
`;

/** An HTML element with attributes (null: none) and children; text is never read as markup. */
function element(tag, attributes = {}, ...children) {
  return setAttributes(document.createElement(tag), attributes, children);
}

function svgElement(tag, attributes = {}, ...children) {
  return setAttributes(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function setAttributes(target, attributes, children = []) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) target.setAttribute(name, value);
  }
  target.append(...children);
  return target;
}

function button(text, action, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", action);
  return made;
}

/** A line, path or box over a dark one. */
function cased(tag, attributes, kind, width = null) {
  const [under, over] = ["under", kind].map((name) => svgElement(tag, { ...attributes, class: name }));
  if (width !== null) {
    under.style.strokeWidth = width + 1.6;
    over.style.strokeWidth = width;
  }
  return [under, over];
}

/** Lay values 0 … 1 over a picture, a canvas pixel for each of [rows, columns]; null clears it. */
function paintHeat(canvas, values, [rows, columns], opacity = 1) {
  Object.assign(canvas, { width: columns, height: rows });
  if (values === null) return;
  const image = new ImageData(columns, rows), last = PALETTE.length - 1;
  values.forEach((value, pixel) => {
    const stop = Math.min(Math.floor(value * last), last - 1), part = value * last - stop;
    for (let c = 0; c < 3; c++) {
      image.data[4 * pixel + c] = PALETTE[stop][c] + part * (PALETTE[stop + 1][c] - PALETTE[stop][c]);
    }
    image.data[4 * pixel + 3] = Math.round(255 * opacity * value ** FADE);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Where in a pad an event is, [y, x] from 0 to 1. */
function positionIn(pad, event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** The step [down, right] of an arrow key, if any. */
function arrowStep(event) {
  return event.ctrlKey || event.altKey || event.metaKey ? undefined : ARROWS[event.key];
}

/** The key does what the widget does with it, and nothing in the page, notebook or book. */
function consume(event) {
  event.preventDefault();
  event.stopPropagation();
}

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at); // quicker than Uint8Array.from
  return bytes;
}

/** Bytes that payload.py packed → the header, and a function that takes the next bytes after it. */
async function unpack(bytes) {
  const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(whole).arrayBuffer();
  let at = 4 + new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, at - 4)));
  return { header, take: (length) => new Uint8Array(buffer, (at += length) - length, length) };
}

/** Lets the page do what else it has to do. */
const pause = () => new Promise((then) => setTimeout(then));

function pictureUrl(bytes) {
  return URL.createObjectURL(new Blob([bytes]));
}

/** A widget's elements in a shadow root, and its model, which Python or a page holds. */
class View {
  constructor(model, root, style) {
    this.model = model;
    this.root = root;
    this.handlers = [];
    this.urls = [];
    root.append(element("style", {}, SHARED_STYLE + style));
  }

  listen(names, handler) {
    for (const name of names) {
      this.model.on(`change:${name}`, handler);
      this.handlers.push([`change:${name}`, handler]);
    }
  }

  show() {}
  fit() {}

  /** Fit to the host's width, now and when it changes. */
  observeWidth() {
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.root.host);
  }

  update(changes) {
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

  remove() {
    this.observer?.disconnect();
    this.handlers.forEach(([event, handler]) => this.model.off(event, handler));
    this.urls.forEach((url) => URL.revokeObjectURL(url));
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

/** How a notebook and a page show a widget: `create` makes its view, whose pictures are decoded. */
function defineWidget(kind, create, Model = PageModel) {
  async function render({ model, el }) {
    const host = element("div", { "data-lm-suppress-shortcuts": "true" }); // JupyterLab's own keys
    el.append(host);
    const root = host.attachShadow({ mode: "open" });
    try {
      const view = await create(model, root);
      host.dataset.ready = Math.round(performance.now()); // ms since the page was asked for
      return () => view.remove();
    } catch (error) {
      root.append(`This widget cannot be shown: ${error.message}`);
      throw error;
    }
  }

  /** Bring all of this page to life, once. */
  function renderPage() {
    const found = document.querySelectorAll(`.indiret-${kind}:not([data-alive])`);
    for (const el of /** @type {any} */ (found)) {
      const { state, payload } = el.dataset;
      el.dataset.alive = "";
      delete el.dataset.state;
      delete el.dataset.payload;
      const bytes = payload && bytesOf(payload);
      render({ model: new Model({ ...JSON.parse(state), payload: bytes }), el });
    }
  }

  return { render, renderPage };
}
