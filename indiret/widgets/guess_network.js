// Trained or random? Of two maps over the same photo one is the trained network's. Rounds are
// counted, and compared exactly with guessing. guess_network.py packs what is unpacked here.

const STYLE = `
.stage { display: grid; gap: .8rem; grid-template-columns: minmax(70px, 1fr) minmax(0, 2.4fr) minmax(0, 2.4fr);
  align-items: start; max-width: 760px; }
@media (max-width: 640px) { .stage { grid-template-columns: 1fr 1fr; } .stage figure { grid-column: 1 / 3; width: 40%; } }
.stage img { display: block; width: 100%; height: auto; border-radius: 4px; }
.map { padding: 4px; width: 100%; text-align: left; border-width: 3px; }
button:disabled { opacity: .55; cursor: default; } .map:disabled { opacity: 1; }
.map.trained { border-color: #1d9a63; } .map.random { border-style: dashed; }
.map .photo { position: relative; display: block; }
.map img { filter: grayscale(.65) brightness(.82); }
.map canvas { opacity: .8; }
.row { margin: .6rem 0; } .status { min-height: 4.35em; max-width: 760px; }
`;

/** Bytes of guess_network.py → rounds, with addresses of pictures and bytes of both maps. */
async function unpackRounds(bytes) {
  const { header, take } = await unpack(bytes);
  for (const round of header.rounds) {
    round.urls = round.pictures.map((picture) => pictureUrl(take(picture.bytes)));
    round.maps = [0, 1].map(() => take(header.grid[0] * header.grid[1])); // trained, random
  }
  return header;
}

/** In how many of the 2ⁿ outcomes of n guesses at least so many are right. */
function outcomesWithAtLeast(right, n) {
  let ways = 1, sum = 0; // ways: n over k
  for (let k = 0; k <= n; k++) {
    if (k >= right) sum += ways;
    ways = (ways * (n - k)) / (k + 1);
  }
  return sum;
}

/** Pearson's correlation of two maps. */
function likeness(one, other) {
  const centred = [one, other].map((map) => {
    const mean = map.reduce((a, b) => a + b) / map.length;
    return Array.from(map, (value) => value - mean);
  });
  const product = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
  return product(...centred) / Math.sqrt(product(centred[0], centred[0]) * product(centred[1], centred[1]));
}

class GuessNetwork extends View {
  constructor(model, root, data) {
    super(model, root, STYLE);
    this.data = data;
    this.urls = data.rounds.flatMap(({ urls }) => urls);
    this.query = element("img");
    this.choices = ["A", "B"].map((name, side) => {
      const image = element("img", { alt: "" }), canvas = element("canvas", { "aria-hidden": "true" });
      const label = element("span", {}, name);
      const choice = button("", () => this.answer(side), { class: "map" });
      choice.append(label, element("span", { class: "photo" }, image, canvas));
      return { name, image, canvas, label, choice };
    });
    this.title = element("p", { class: "title" });
    this.readout = element("p", { class: "status readout", role: "status", "aria-live": "polite" });
    this.next = button("next round", () => this.advance());
    this.again = button("start again", () => this.start());
    root.append(this.title,
      element("div", { class: "stage" },
        element("figure", {}, element("figcaption", {}, "query"), this.query),
        ...this.choices.map(({ choice }) => choice)),
      element("div", { class: "row" }, this.next, this.again),
      this.readout);
    this.start();
  }

  start() {
    const { rounds } = this.data;
    this.round = this.right = 0;
    this.answered = null;
    this.trained = rounds.map(() => (Math.random() < 0.5 ? 0 : 1)); // on which side
    this.show();
  }

  answer(side) {
    if (this.answered !== null) return;
    this.answered = side;
    this.right += Number(side === this.trained[this.round]);
    this.show();
    (this.next.hidden ? this.again : this.next).focus({ preventScroll: true });
  }

  advance() {
    this.round += 1;
    this.answered = null;
    this.show();
    this.choices[0].choice.focus({ preventScroll: true });
  }

  show() {
    const { rounds, grid } = this.data, round = rounds[this.round], trained = this.trained[this.round];
    const known = this.answered !== null;
    this.title.textContent = `Round ${this.round + 1} of ${rounds.length}, ${this.right} right so far. ` +
      "Which map is the trained network's?";
    Object.assign(this.query, { src: round.urls[0], alt: "the query" });
    this.choices.forEach(({ name, image, canvas, label, choice }, side) => {
      const which = side === trained ? "trained" : "random";
      const map = round.maps[side === trained ? 0 : 1], high = Math.max(...map) || 1;
      Object.assign(image, { src: round.urls[1], alt: `map ${name} over the target` });
      paintHeat(canvas, Array.from(map, (value) => value / high), grid);
      label.textContent = known ? `${name}: ${which}` : name;
      choice.disabled = known;
      choice.className = known ? `map ${which}` : "map";
    });
    const last = this.round === rounds.length - 1;
    this.next.disabled = !known;
    this.next.hidden = last;
    this.readout.textContent = known ? this.summary(last) : "Choose A or B.";
  }

  summary(last) {
    const { rounds } = this.data, alike = likeness(...rounds[this.round].maps).toFixed(2);
    const right = this.answered === this.trained[this.round];
    const told = `${right ? "Right" : "Wrong"}. The two maps correlate by ${alike}.`;
    return last ? `${told} ${this.verdict()}` : told;
  }

  /** What the score means beside guessing. */
  verdict() {
    const n = this.data.rounds.length, { right } = this, outcomes = 2 ** n;
    const tail = outcomesWithAtLeast(right, n), share = `${((100 * tail) / outcomes).toFixed(1)} %`;
    const mean = this.data.rounds.reduce((sum, { maps }) => sum + likeness(...maps), 0) / n;
    const low = outcomesWithAtLeast(n - right, n) / outcomes; // at most so many right
    const meaning = tail / outcomes <= 0.05 ? "That is hard to do by guessing: you saw a difference."
      : low <= 0.05 ? "So few are as hard to get by guessing: you saw a difference, and chose the other map."
        : "Guessing explains that score: these maps did not show you whose they are.";
    return `You found ${right} of ${n}. Who guesses finds ${right} or more in ${tail.toLocaleString("en")} of ` +
      `${outcomes.toLocaleString("en")} equally likely outcomes, ${share}. ${meaning} ` +
      `Over all rounds the two maps correlate by ${mean.toFixed(2)} on average.`;
  }
}

const { render, renderPage } = defineWidget("guess", async (model, root) => {
  const game = new GuessNetwork(model, root, await unpackRounds(model.get("payload")));
  await Promise.all([game.query, ...game.choices.map(({ image }) => image)].map((one) => one.decode()));
  return game;
});

export default { render };
