// One 4-D kernel of 81 weights, trained here: a softmax over all target patches has to choose the
// true partner of each query patch. Proximal gradient descent, so that a penalty on the sizes of
// the weights makes some of them exactly 0. kernel_trainer.py packs what is unpacked here.

const SIDE = 3, STEPS = 9, TAPS = 81; // of the kernel: along one axis, on one side, in all
const RATE = 0.2;
const ROUND = 60; // steps of one press of the button
const WAYS = ["↖", "↑", "↗", "←", "·", "→", "↙", "↓", "↘"]; // of a step, by 3 · down + right
const WAY_NAMES = ["up left", "up", "up right", "left", "no step", "right", "down left", "down", "down right"];
const HEIGHT = 180; // of the plot, in its own units
const KEYS = "A cell is one weight: warm above 0, blue below. Point at it or use the arrow keys to read it.";

const STYLE = `
.stage { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr)); }
.framed { display: grid; grid-template: auto auto / 2.6em minmax(0, 300px); margin-bottom: .3rem; }
.across, .down { display: grid; grid-auto-columns: 1fr; text-align: center; }
.across { grid-area: 1 / 2; grid-auto-flow: column; }
.down { grid-area: 2 / 1; grid-auto-rows: 1fr; align-items: center; }
.pad { grid-area: 2 / 2; aspect-ratio: 1; display: grid; grid-template-columns: repeat(9, 1fr); gap: 1px; cursor: crosshair;
  border: 1px solid var(--line); touch-action: pan-y; }
.tap { background: color-mix(in srgb, var(--tone) var(--size), transparent); outline-offset: -2px; }
.tap.agrees { border-radius: 50%; }
.tap.read { outline: 2px solid currentColor; }
.plot { position: relative; }
.plot svg { position: static; height: auto; overflow: visible; font-size: 12px; fill: currentColor; }
.plot path { fill: none; stroke: currentColor; stroke-opacity: .35; }
.plot .found { stroke: var(--accent); stroke-width: 2.5; stroke-opacity: 1; }
.row { margin: .5rem 0; } .status { min-height: 4.35em; }
`;

/** Bytes of kernel_trainer.py → known query patches of training and held-out pairs, each with what
 * the kernel's taps see at every target patch, 0 … levels, by target patch × tap. */
async function unpackExamples(bytes) {
  const { header, take } = await unpack(bytes);
  const length = header.grid.reduce((a, b) => a * b);
  const read = async (truths) => {
    const examples = [];
    for (const partners of truths) {
      const values = take(length);
      partners.forEach((partner, patch) => {
        if (partner >= 0) examples.push({ partner, seen: windows(values, header.grid, patch) });
      });
      await pause();
    }
    return examples;
  };
  const training = await read(header.training), heldOut = await read(header.held_out);
  return { ...header, scale: header.high / header.levels, training, heldOut };
}

const TAP_STEPS = Array.from({ length: TAPS }, (_, tap) =>
  [27, 9, 3, 1].map((stride) => (Math.floor(tap / stride) % SIDE) - 1));

/** Of one query patch: at each target patch what each tap (t, u, v, w) lies on; 0 outside. */
function windows(values, [m, n, K, L], patch) {
  const seen = new Uint8Array(m * n * TAPS), k = Math.floor(patch / L), l = patch % L;
  TAP_STEPS.forEach(([t, u, v, w], tap) => {
    if (k + v < 0 || k + v >= K || l + w < 0 || l + w >= L) return;
    for (let i = Math.max(0, -t); i < Math.min(m, m - t); i++) {
      for (let j = Math.max(0, -u); j < Math.min(n, n - u); j++) {
        seen[(i * n + j) * TAPS + tap] = values[(((i + t) * n + j + u) * K + k + v) * L + l + w];
      }
    }
  });
  return seen;
}

/** What a kernel says of every target patch. */
function answersOf(seen, kernel, scale) {
  const answers = new Float64Array(seen.length / TAPS);
  for (let place = 0; place < answers.length; place++) {
    let sum = 0;
    for (let tap = 0; tap < TAPS; tap++) sum += seen[place * TAPS + tap] * kernel[tap];
    answers[place] = sum * scale;
  }
  return answers;
}

/** A step down the gradient of the mean cross entropy, and all weights nearer to 0 by the penalty. */
function trainStep(kernel, examples, scale, penalty) {
  const gradient = new Float64Array(TAPS);
  for (const { seen, partner } of examples) {
    const answers = answersOf(seen, kernel, scale), high = Math.max(...answers);
    const shares = answers.map((answer) => Math.exp(answer - high));
    const sum = shares.reduce((a, b) => a + b);
    for (let place = 0; place < shares.length; place++) {
      const excess = (scale * (shares[place] / sum - (place === partner ? 1 : 0))) / examples.length;
      for (let tap = 0; tap < TAPS; tap++) gradient[tap] += excess * seen[place * TAPS + tap];
    }
  }
  return kernel.map((weight, tap) => {
    const next = weight - RATE * gradient[tap];
    return Math.sign(next) * Math.max(0, Math.abs(next) - RATE * penalty);
  });
}

/** The share of query patches whose best target patch is the true partner or next to it. */
function shareFound(examples, kernel, columns, scale) {
  const found = examples.filter(({ seen, partner }) => {
    const answers = answersOf(seen, kernel, scale), best = answers.indexOf(Math.max(...answers));
    return Math.max(Math.abs(Math.floor(best / columns) - Math.floor(partner / columns)),
      Math.abs((best % columns) - (partner % columns))) <= 1;
  });
  return found.length / examples.length;
}

const agrees = (tap) => Math.floor(tap / STEPS) === tap % STEPS; // the same step on both sides
const kernelOf = (weight) => Float64Array.from({ length: TAPS }, (_, tap) => weight(tap));
const percent = (share) => `${Math.round(100 * share)} %`;

class KernelTrainer extends View {
  constructor(model, root, data) {
    super(model, root, STYLE);
    this.data = data;
    this.cursor = 40;
    const written = {
      "no kernel": (tap) => Number(tap === 40), "81 alike": () => 1, "9 by hand": (tap) => Number(agrees(tap)),
    };
    this.references = Object.entries(written).map(([name, weight]) => [name, this.measure(kernelOf(weight))]);
    this.pad = this.makePad();
    this.plot = svgElement("svg", { viewBox: `0 0 330 ${HEIGHT + 40}`, role: "img" });
    this.play = button("train", () => this.toggle());
    this.penalty = element("input", { type: "range", min: 0, max: 0.2, step: 0.02, value: 0.1 });
    this.amount = element("output");
    this.penalty.addEventListener("input", () => this.show());
    this.readout = element("p", { class: "status readout", role: "status" });
    this.tap = element("p", { class: "keys", "aria-live": "polite" });
    const arrows = (kind) => element("div", { class: kind, "aria-hidden": "true" },
      ...WAYS.map((way) => element("span", {}, way)));
    root.append(
      element("div", { class: "row" }, this.play, button("one step", () => this.advance()),
        button("start again", () => this.reset()),
        element("label", {}, "penalty", this.penalty, this.amount)),
      element("div", { class: "stage" },
        element("figure", {}, element("figcaption", {}, "weights: step in the target ↓, in the query →"),
          element("div", { class: "framed" }, arrows("across"), arrows("down"), this.pad), this.tap),
        element("figure", { class: "plot" },
          element("figcaption", {}, "held-out query patches found"), this.plot)),
      this.readout, element("p", { class: "keys", id: "keys" }, KEYS),
    );
    this.reset();
  }

  makePad() {
    const pad = element("div", { class: "pad", tabindex: 0, role: "application",
      "aria-label": "81 weights: 9 steps in the target by 9 in the query", "aria-describedby": "keys" });
    this.taps = Array.from({ length: TAPS }, (_, tap) => element("div", { class: `tap${agrees(tap) ? " agrees" : ""}` }));
    pad.append(...this.taps);
    const read = (tap) => {
      this.cursor = tap;
      this.showTap();
    };
    for (const kind of ["pointerdown", "pointermove"]) {
      pad.addEventListener(kind, (event) => {
        const [row, column] = positionIn(pad, event).map((at) => clamp(Math.floor(at * STEPS), 0, STEPS - 1));
        read(row * STEPS + column);
      });
    }
    pad.addEventListener("keydown", (event) => {
      const step = arrowStep(event);
      if (!step) return;
      consume(event);
      read(clamp(Math.floor(this.cursor / STEPS) + step[0], 0, STEPS - 1) * STEPS +
        clamp((this.cursor % STEPS) + step[1], 0, STEPS - 1));
    });
    return pad;
  }

  measure(kernel) {
    return shareFound(this.data.heldOut, kernel, this.data.grid[1], this.data.scale);
  }

  reset() {
    this.pause();
    this.kernel = kernelOf(() => 1 / TAPS);
    this.history = [this.measure(this.kernel)];
    this.show();
  }

  advance() {
    const { training, scale } = this.data;
    this.kernel = trainStep(this.kernel, training, scale, Number(this.penalty.value));
    this.history.push(this.measure(this.kernel));
    this.show();
  }

  toggle() {
    if (this.left) return this.pause();
    this.left = ROUND;
    this.play.textContent = "pause";
    this.frame = requestAnimationFrame(() => this.run());
  }

  run() {
    this.advance();
    this.left -= 1;
    if (this.left) this.frame = requestAnimationFrame(() => this.run());
    else this.pause();
  }

  pause() {
    cancelAnimationFrame(this.frame);
    this.left = 0;
    this.play.textContent = "train";
  }

  show() {
    const most = Math.max(...this.kernel.map(Math.abs)) || 1;
    this.amount.textContent = Number(this.penalty.value).toFixed(2);
    this.taps.forEach((tap, number) => {
      const weight = this.kernel[number];
      tap.style.setProperty("--tone", weight < 0 ? "#4b8ef0" : "var(--accent)");
      tap.style.setProperty("--size", `${Math.round((100 * Math.abs(weight)) / most)}%`);
    });
    this.showTap();
    this.draw();
    this.readout.textContent = this.summary();
    this.root.host.dataset.kernel = this.kernel.join();
  }

  showTap() {
    const [target, query] = [Math.floor(this.cursor / STEPS), this.cursor % STEPS];
    this.taps.forEach((tap, number) => tap.classList.toggle("read", number === this.cursor));
    this.tap.textContent = `Target ${WAY_NAMES[target]}, query ${WAY_NAMES[query]}: ${this.kernel[this.cursor].toFixed(2)}`;
  }

  draw() {
    const steps = Math.max(ROUND, this.history.length - 1), top = 0.7;
    const x = (step) => 34 + (190 * step) / steps, y = (share) => HEIGHT - (HEIGHT * share) / top + 8;
    const text = (words, at, down, anchor = "start") => svgElement("text", { x: at, y: down, "text-anchor": anchor }, words);
    const line = this.history.map((share, step) => `${step ? "L" : "M"}${x(step)} ${y(share)}`).join("");
    this.plot.replaceChildren(
      ...[0, 0.2, 0.4, 0.6].map((share) => text(percent(share), 29, y(share) + 4, "end")),
      svgElement("path", { d: `M34 8V${y(0)}H${x(steps)}` }),
      ...this.references.flatMap(([name, share]) => [
        svgElement("path", { d: `M34 ${y(share)}H${x(steps)}`, "stroke-dasharray": "4 3" }),
        text(`${name} ${percent(share)}`, x(steps) + 5, y(share) + 4)]),
      svgElement("path", { class: "found", d: line }),
      text("0", x(0), y(0) + 15, "middle"), text(String(steps), x(steps), y(0) + 15, "middle"),
      text("training step", x(steps / 2), y(0) + 28, "middle"),
    );
    this.plot.setAttribute("aria-label", `${percent(this.history.at(-1))} found after ${this.history.length - 1} steps`);
  }

  summary() {
    const sizes = this.kernel.map(Math.abs), sum = sizes.reduce((a, b) => a + b);
    const left = sizes.filter((size) => size > 0).length;
    const alike = sizes.filter((size, tap) => size > 0 && agrees(tap)).length;
    const share = sizes.reduce((total, size, tap) => total + (agrees(tap) ? size : 0), 0) / sum;
    return `Step ${this.history.length - 1}: ${left} of 81 weights are not 0, ${alike} of them on the diagonal, ` +
      `which holds ${percent(share || 0)} of all their sizes. Of ${this.data.heldOut.length} held-out query patches ` +
      `${percent(this.history.at(-1))} find the true partner within one patch.`;
  }

  remove() {
    this.pause();
    super.remove();
  }
}

const { render, renderPage } = defineWidget("kernel", async (model, root) =>
  new KernelTrainer(model, root, await unpackExamples(model.get("payload"))));

export default { render };
