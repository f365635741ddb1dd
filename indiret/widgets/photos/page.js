// The page Your own photos: what is given, read, ranked, opened and taken away.

const SHOWN_PHOTOS = 11; // of those to look in, in their card
const MOST_WORKERS = 4; // a worker takes 30 MB and more
const AT_ONCE = 20; // files that are asked for their size, which takes up to a millisecond each

const byId = (id) => document.getElementById(id);
const count = (number) => `${number} photo${number === 1 ? "" : "s"}`;
const isAbort = (error) => error.name === "AbortError";

class Photo {
  features = null;
  box = null;

  constructor(file) {
    Object.assign(this, { file, name: file.name, path: pathOf(file), key: keyOf(file) });
  }

  know({ features, shown, size }) {
    this.forget();
    Object.assign(this, { features, shown, size, url: URL.createObjectURL(shown) });
  }

  forget() {
    if (this.url) URL.revokeObjectURL(this.url);
  }
}

class PhotosPage {
  query = null; // the photo that is asked about, or its part in a box
  targets = []; // photos to look in
  waiting = []; // those still to be read
  hits = []; // those that are ranked, best first
  asked = 0; // how many queries, and
  opened = 0; // how many answers were asked for: an earlier one that comes late is dropped
  lanes = 0; // that read
  ranking = null;
  explorer = null;

  constructor(parts) {
    Object.assign(this, parts); // pool, store, workers
    this.box = new BoxPad((box) => this.setQuery(this.query.file, box));
    this.list = new Ranking(async (photo) => {
      await this.open(photo);
      byId("answer").scrollIntoView({ block: "nearest" });
    });
    byId("ranking").append(this.list.element);
    byId("box-keys").textContent = BOX_KEYS;
    this.listen();
  }

  listen() {
    const click = (id, action) => byId(id).addEventListener("click", action);
    click("draw", () => this.allowTouch(byId("draw").getAttribute("aria-pressed") === "false"));
    click("whole", () => this.box.set(null));
    click("clear", () => this.clear());
    click("stop", () => (this.lanes ? this.stop() : this.read()));
    click("save-csv", () => saveCsv(this.hits));
    click("save-page", () => this.savePage());
    click("forget", () => this.store.clear().then(
      () => this.say("Forgotten: this browser keeps nothing of them."),
      () => this.say("They could not be removed; clear this browser's data.")));
    for (const input of document.querySelectorAll("input")) {
      input.addEventListener("change", () => {
        this.take([...input.files], input.dataset.for);
        input.value = "";
      });
    }
    this.listenToDrops();
    document.addEventListener("paste", (event) => {
      const files = [...event.clipboardData.files];
      if (files.length) this.take(files, this.query ? "targets" : "query");
    });
  }

  listenToDrops() {
    const cardOf = (event) => event.target.closest?.(".card");
    const light = (card) => document.querySelectorAll(".card").forEach((one) =>
      one.classList.toggle("over", one === card));
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      light(cardOf(event));
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget || light(null));
    document.addEventListener("drop", async (event) => {
      event.preventDefault();
      light(null);
      const place = cardOf(event)?.id ?? (this.query ? "targets" : "query");
      this.take(await droppedFiles(event.dataTransfer), place);
    });
  }

  /** `more` of the same kind is to come soon, so that nobody needs to hear this. */
  say(words, more = false) {
    byId("status").setAttribute("aria-busy", String(more));
    byId("status").textContent = words;
  }

  complain(place, words) {
    byId("problems").append(element("p", { "data-of": place }, words));
  }

  forgive(place) {
    document.querySelectorAll(`#problems [data-of=${place}]`).forEach((old) => old.remove());
  }

  /** Files for one of the cards. Of several for the query the first is asked about, the others looked in. */
  take(files, place) {
    const photos = files.length > 1 ? files.filter(isPhoto) : files;
    this.forgive(place);
    if (!photos.length) return this.complain(place, "There is no photo in it.");
    if (place === "query") this.setQuery(photos.shift());
    if (photos.length) this.add(photos);
  }

  async setQuery(file, box = null) {
    const run = ++this.asked, photo = new Photo(file), changed = this.query?.file !== file;
    this.forgive("query");
    this.say(`Reading ${photo.name} …`);
    try {
      const { whole, ...known } = await this.pool.read(file, { query: true, box });
      if (run !== this.asked) return;
      photo.know(known);
      this.query?.forget();
      this.query = Object.assign(photo, { box });
      if (changed) this.showQuery(whole);
      this.allowTouch(false);
      byId("whole").hidden = !box;
      byId("answer").classList.add("old");
    } catch (error) {
      if (run !== this.asked) return;
      if (isAbort(error)) return this.setQuery(file, box); // what else was under way has been stopped
      if (!this.ranking) this.say("");
      if (!changed) this.box.show({ ...this.query, url: this.wholeUrl });
      return this.complain("query", `${box ? "The box on " : ""}${photo.name} ${error.message}`);
    }
    await this.rank();
  }

  showQuery(whole) {
    URL.revokeObjectURL(this.wholeUrl);
    this.wholeUrl = URL.createObjectURL(whole);
    this.box.show({ ...this.query, url: this.wholeUrl });
    byId("pad").replaceChildren(this.box.element);
    byId("query").classList.add("filled");
    byId("query").querySelector(".button span").textContent = "Another photo";
    byId("draw").hidden = byId("box-keys").hidden = false;
  }

  allowTouch(allowed) {
    byId("draw").setAttribute("aria-pressed", String(allowed));
    this.box.allowTouch(allowed);
    if (allowed) {
      this.say("Draw a box on the photo with mouse or finger, or with arrow keys and Enter.");
      this.box.element.focus({ preventScroll: true });
    }
  }

  async add(files) {
    const photos = [];
    for (const file of files) {
      if (photos.push(new Photo(file)) % AT_ONCE === 0) await pause();
    }
    const known = new Set(this.targets.map(({ key }) => key));
    const fresh = photos.filter(({ key }) => !known.has(key) && known.add(key));
    if (!fresh.length) return this.complain("targets", "They are there already.");
    this.targets.push(...fresh);
    this.waiting.push(...fresh);
    this.showTargets();
    this.read();
  }

  clear() {
    this.waiting = [];
    if (this.lanes || this.ranking) this.pool.cancel();
    this.targets.forEach((photo) => photo.forget());
    Object.assign(this, { targets: [], hits: [] });
    this.list.clear();
    this.opened++;
    byId("problems").replaceChildren();
    byId("results").hidden = byId("reading").hidden = byId("answer").hidden = true;
    this.say("");
    this.showTargets();
  }

  /** In as many lanes as there are workers, and one that fetches. */
  read() {
    if (this.ranking) this.pool.cancel();
    if (!this.lanes) Object.assign(this, { began: performance.now(), done: 0 });
    this.stopped = false;
    while (this.waiting.length && this.lanes <= this.workers) this.openLane();
    this.showReading();
  }

  async openLane() {
    this.lanes++;
    while (this.waiting.length && !this.stopped) await this.readOne(this.waiting.shift());
    if (--this.lanes) return;
    this.showReading();
    this.showTargets();
    await this.rank();
  }

  async readOne(photo) {
    try {
      const kept = await this.store.get(photo.key);
      const { features, shown, size } = kept ?? await this.pool.read(photo.file), known = { features, shown, size };
      if (kept || await this.store.put(photo.key, known)) {
        known.features = { ...features, codes: null };
        release(features.codes);
      }
      photo.know(known);
    } catch (error) {
      if (isAbort(error)) {
        if (this.targets.includes(photo)) this.waiting.unshift(photo);
        return;
      }
      this.targets = this.targets.filter((one) => one !== photo);
      this.complain("targets", `${photo.path} ${error.message}`);
    }
    this.done++;
    this.showReading();
  }

  /** With codes, a megabyte, from the store if it has them: then nobody else needs that copy. */
  async featuresOf(photo) {
    if (photo.features.codes) return photo.features;
    const kept = await this.store.get(photo.key);
    return kept ? { ...kept.features, spare: true }
      : (photo.features = (await this.pool.read(photo.file)).features);
  }

  stop() {
    this.stopped = true;
    this.pool.cancel();
  }

  showReading() {
    const { done, waiting, lanes } = this, total = this.targets.length;
    const read = this.targets.filter(({ features }) => features).length;
    const rate = (1000 * done) / (performance.now() - this.began);
    const left = Math.ceil((total - read) / rate);
    byId("reading").hidden = !lanes && !waiting.length;
    Object.assign(byId("progress"), { max: Math.max(1, total), value: read });
    byId("progress").setAttribute("aria-valuetext", `${read} of ${total} photos read`);
    if (read <= SHOWN_PHOTOS) this.showTargets();
    byId("rate").textContent = `${read} of ${total} read${
      lanes && done > 2 ? ` · ${rate.toPrecision(2)} a second · ${left} s left` : ""}`;
    byId("stop").textContent = lanes ? "Stop" : "Go on";
  }

  showTargets() {
    const { targets } = this, { length } = targets, read = targets.filter(({ url }) => url);
    byId("targets").classList.toggle("filled", length > 0);
    byId("clear").hidden = byId("mosaic").hidden = !length;
    byId("mosaic").classList.toggle("one", length === 1);
    const images = read.slice(0, SHOWN_PHOTOS).map(({ url, name }) =>
      element("li", {}, element("img", { src: url, alt: name, title: name })));
    const more = length - images.length;
    if (more > 0) images.push(element("li", { class: "more" }, images.length ? `and ${more} more` : count(more)));
    byId("mosaic").replaceChildren(...images);
  }

  async rank() {
    const { query } = this, read = this.targets.filter(({ features }) => features);
    this.hits = [];
    this.list.clear();
    byId("results").hidden = true;
    if (!query) return this.say(read.length ? "Now the photo you ask about." : "");
    if (this.lanes) return this.say("");
    if (!read.length) return this.say("Now a photo to compare it with, or a folder.");
    const others = read.filter(({ file }) => !isSame(file, query.file)); // itself would be the first
    const photos = others.length ? others : read;
    if (this.ranking) this.pool.cancel();
    const run = (this.ranking = Symbol("ranking"));
    this.say(`Comparing with ${count(photos.length)} …`);
    const show = (hits, final) => {
      this.hits = hits.map((hit) => ({ ...hit, photo: photos[hit.index] }));
      this.list.show(this.hits, final);
    };
    byId("results").hidden = photos.length < 2;
    byId("forget").hidden = byId("kept").hidden = !this.store.allowed;
    try {
      const onProgress = ({ done, total, hits }) => {
        if (run !== this.ranking) return;
        show(hits, false);
        if (photos.length > 1) this.say(`Comparing: ${done} of ${total} …`, true);
      };
      const owners = new Map([query, ...photos].map((photo) => [photo.features, photo]));
      const load = (features) => this.featuresOf(owners.get(features));
      const hits = await this.pool.rank(query.features, photos.map((photo) => photo.features), { onProgress, load });
      if (run !== this.ranking) return;
      show(hits, true);
      const itself = photos.length < read.length ? " The photo itself, which is among them, is left out." : "";
      const found = isFound(hits) ? "" : " Nothing found: none is probably the same, or stands out from the others.";
      this.say(photos.length > 1 ? `${count(photos.length)} compared.${itself}${found}` : "");
      await this.open(this.hits[0].photo);
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      if (run === this.ranking) this.ranking = null;
    }
  }

  async open(photo) {
    const run = ++this.opened, { query } = this;
    this.list.select(photo);
    const found = await this.explain(photo);
    if (!found || run !== this.opened) return;
    const words = answerWords(found);
    byId("answer").hidden = false;
    byId("answer").className = words.verdict;
    byId("title").textContent = words.title;
    byId("detail").textContent = words.detail;
    byId("told").textContent = `${photo.name}: ${words.title} ${words.detail}`;
    const bars = [["probability of the same thing", found.probability, percent(found.probability)],
      ...["first", "other"].map((which, side) => [`could be judged of the ${which} photo`,
        found.structure[side], `${Math.round(100 * found.structure[side])} %`])];
    byId("figures").replaceChildren(...bars.map(([label, share, text]) => element("div", {},
      element("dt", {}, label), element("dd", {}, text),
      element("div", { class: "bar", "aria-hidden": "true" }, element("div", { style: `width: ${100 * share}%` })))));
    const before = this.explorer;
    this.explorer = await showPair(byId("evidence"), explorerData(query, photo, found));
    before?.remove();
  }

  /** Nothing if another question came between. */
  explain(photo) {
    const { features: query } = this.query;
    return this.featuresOf(photo).then((found) => this.pool.explain(query, found)).catch((error) => {
      if (!isAbort(error)) throw error;
    });
  }

  async savePage() {
    this.say("Drawing the evidence …");
    const { query, hits } = this;
    const saved = await savePage(query, hits, (photo) => this.query === query && this.explain(photo));
    if (saved) this.say("Saved as results.html.");
  }
}

function showSamples(page, { photos, sets }) {
  const files = Object.fromEntries(Object.entries(photos).map(([name, jpeg]) =>
    [name, new File([bytesOf(jpeg)], `${name}.jpg`, { type: "image/jpeg", lastModified: 0 })]));
  byId("samples").append(...sets.map(([title, query, box, targets]) => {
    const show = () => {
      page.clear();
      page.setQuery(files[query], box);
      page.add(targets.map((name) => files[name]));
    };
    const images = [query, ...targets.slice(0, 2)].map((name) => element("img", { src: URL.createObjectURL(files[name]), alt: "" }));
    const one = button("", show, { class: "sample" });
    one.append(element("span", { "aria-hidden": "true" }, ...images), title);
    return one;
  }));
}

/** In the book's frame: as high as what it holds, and as light or dark as the book. */
function fitFrame() {
  document.documentElement.classList.add("framed");
  const tell = () => parent.postMessage({ height: document.documentElement.offsetHeight }, "*");
  new ResizeObserver(tell).observe(document.documentElement);
  addEventListener("message", ({ data: { theme } }) => {
    if (["light", "dark"].includes(theme)) document.documentElement.style.colorScheme = theme;
  });
}

async function begin() {
  const text = (id) => byId(id).textContent;
  byId("policy").textContent = document.querySelector("meta[http-equiv]").getAttribute("content");
  if (parent !== window) fitFrame();
  const workers = clamp(navigator.hardwareConcurrency ?? 2, 1, MOST_WORKERS);
  const data = matcherData(await unpack(bytesOf(text("constants"))));
  const page = new PhotosPage({
    pool: createWorkerPool(text("matcher"), data, workers),
    store: await openStore(byId("constants").dataset.version), workers,
  });
  showSamples(page, JSON.parse(text("sample-photos")));
  document.documentElement.dataset.ready = "";
}

begin();
