// Draws and judges regions of interest. annotator.py keeps the file and hands over one photo at a
// time; what is drawn lives here, and every change is sent at once.

const TALLEST = 560; // of the photo, px
const KEYS = [
  "Arrow keys move the cross, with Shift by one pixel; Enter sets a corner; C closes a polygon; " +
    "Backspace takes the last corner back; Escape gives up.",
  "B box, P polygon. S selects the next region, E takes hold of its next corner, A accepts it, " +
    "R rejects it, X deletes it. 0: nothing here.",
  "N next photo, Shift+N the one before, J next that is not done. Z undoes, Y does it again.",
];

const STYLE = `
:host { --given: #6fb7ff; }
.row { margin: 0 0 .45rem; }
progress { width: 8rem; accent-color: var(--accent); }
.name { overflow-wrap: anywhere; margin: 0 0 .3rem; }
.notice, .trouble { border-left: 4px solid var(--accent); padding-left: .6rem; margin: 0 0 .5rem; }
.trouble { border-color: var(--bad); margin: .4rem 0; }
select { background: Canvas; color: CanvasText; }
button:disabled { opacity: .45; cursor: default; }
button[aria-pressed=true] { background: var(--accent); border-color: var(--accent);
  color: var(--ink); }
.pad { margin: 0 auto; cursor: crosshair; touch-action: none; }
.pad img { display: block; width: 100%; height: 100%; border-radius: 4px; }
.pad svg { overflow: visible; }
.outline, .cross { fill: none; }
.outline { stroke: var(--good); stroke-width: 2.2; }
.outline.query { stroke: var(--given); }
.outline.open { stroke: var(--accent); stroke-dasharray: 7 4; }
.outline.rejected { stroke: var(--bad); stroke-dasharray: 2 4; }
.outline.selected { stroke-width: 3.6; } .outline.draft { stroke: #fff; stroke-dasharray: 4 3; }
.handle { fill: #fff; stroke: var(--ink); }
.handle.held { fill: var(--accent); }
.cross { stroke: #fff; stroke-width: 1.5; }
.regions { list-style: none; margin: .5rem 0 .3rem; padding: 0; display: flex; flex-wrap: wrap;
  gap: .35rem; }
`;

const outlinePath = (points, closed) =>
  `M${points.map((point) => point.join(" ")).join("L")}${closed ? "Z" : ""}`;

class Annotator extends View {
  constructor(model, root) {
    super(model, root, STYLE);
    this.editor = new RegionEditor({
      announce: (words) => { this.status.textContent = words; },
      paint: () => this.paint(),
      save: (regions, nothing) =>
        model.send({ action: "save", number: this.photo.number, regions, nothing }),
      landmark: () => this.landmark.value ?? "",
    });
    this.build();
    this.listen(["view"], () => this.load());
    this.listen(["progress"], () => this.showProgress());
    this.listen(["message"], () => this.showMessage());
    this.observeWidth();
    this.ready = this.load();
  }

  build() {
    const { editor, model } = this;
    this.place = element("span", { class: "place" });
    this.bar = element("progress", { "aria-label": "photos done" });
    this.before = button("← previous", () => this.open(this.photo.number - 1));
    this.after = button("next →", () => this.open(this.photo.number + 1));
    this.name = element("p", { class: "name" });
    this.notice = element("p", { class: "notice" }, model.get("notice") ?? "");
    this.notice.hidden = !model.get("notice");
    this.image = element("img", { draggable: "false" });
    this.drawing = svgElement("svg", { "aria-hidden": "true", preserveAspectRatio: "none" });
    this.pad = element("div", {
      class: "pad", tabindex: 0, role: "application", "aria-roledescription": "drawing area",
      "aria-describedby": "keys",
    }, this.image, this.drawing);
    this.modes = Object.fromEntries(
      ["box", "polygon"].map((mode) => [mode, button(mode, () => editor.setMode(mode))]));
    this.landmark = element("select", { "aria-label": "landmark of new regions" });
    this.undoing = button("undo", () => editor.undo());
    this.redoing = button("redo", () => editor.redo());
    this.accepting = button("accept", () => editor.setState("accepted"));
    this.rejecting = button("reject", () => editor.setState("rejected"));
    this.deleting = button("delete", () => editor.delete());
    this.nothing = element("input", { type: "checkbox" });
    this.nothing.addEventListener("change", () => editor.markNothing(this.nothing.checked));
    this.list = element("ul", { class: "regions", "aria-label": "regions" });
    this.status = element("p", { class: "status", role: "status", "aria-live": "polite" });
    this.trouble = element("p", { class: "trouble", role: "alert" });
    this.tools = element("div", { class: "row", role: "toolbar", "aria-label": "drawing" },
      this.modes.box, this.modes.polygon, this.landmark, this.undoing, this.redoing,
      this.accepting, this.rejecting, this.deleting,
      element("label", {}, this.nothing, "nothing here"));
    const body = element("div", {},
      this.notice, element("div", { class: "row" }, this.before, this.after,
        button("next not done", () => model.send({ action: "next" })), this.bar, this.place),
      this.name, this.tools, this.pad, this.trouble, this.list, this.status,
      element("div", { class: "keys", id: "keys" }, ...KEYS.map((text) => element("div", {}, text))));
    body.addEventListener("keydown", (event) => this.press(event));
    this.root.append(body);
    const on = (name, action) => this.pad.addEventListener(name, (event) => action.call(this, event));
    on("pointerdown", this.pressPointer);
    on("pointermove", this.movePointer);
    on("pointerup", this.releasePointer);
    on("pointercancel", () => editor.cancel());
    on("focus", this.paint);
    on("blur", this.paint);
  }

  // ---- the photo

  async load() {
    const { editor } = this, photo = (this.photo = this.model.get("view"));
    editor.load(photo);
    this.name.textContent = photo.name;
    this.pad.hidden = this.tools.hidden = !photo.size;
    this.landmark.replaceChildren(...photo.landmarks.map((text) => element("option", {}, text)));
    this.landmark.hidden = photo.landmarks.length < 2;
    this.showProgress();
    this.showMessage();
    if (!photo.size) {
      return editor.announce(`Photo ${photo.number + 1} cannot be read: ${photo.problem}`);
    }
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [pictureUrl(this.model.get("picture"))];
    this.image.src = this.urls[0];
    this.image.alt = `photo ${photo.name}`;
    this.drawing.setAttribute("viewBox", `0 0 ${photo.size[1]} ${photo.size[0]}`);
    const open = editor.regions.filter((region) => region.state === "open").length;
    editor.announce(`Photo ${photo.number + 1} of ${this.model.get("progress").total}: ${
      this.count()}${open ? `, ${open} to accept or reject` : ""}.`);
    this.width = 0;
    this.fit();
    await this.image.decode().catch(() => {}); // another photo was asked for meanwhile
  }

  open(number) {
    const { total } = this.model.get("progress");
    if (number < 0 || number >= total) {
      return this.editor.announce(`This is the ${number < 0 ? "first" : "last"} photo.`);
    }
    this.model.send({ action: "open", number });
  }

  showProgress() {
    const { done, total } = this.model.get("progress"), { number } = this.photo;
    this.place.textContent = `photo ${number + 1} of ${total}, ${done} done`;
    this.bar.max = total;
    this.bar.value = done;
    this.bar.setAttribute("aria-valuetext", `${done} of ${total} photos done`);
    this.before.disabled = number === 0;
    this.after.disabled = number === total - 1;
  }

  showMessage() {
    this.trouble.textContent = this.model.get("message");
    this.trouble.hidden = !this.trouble.textContent;
  }

  fit() {
    const width = this.root.host.clientWidth;
    if (!width || width === this.width || !this.photo.size) return;
    this.width = width;
    const [rows, columns] = this.photo.size;
    const wide = Math.min(width, (TALLEST * columns) / rows);
    this.pad.style.width = `${wide}px`;
    this.pad.style.height = `${(wide * rows) / columns}px`;
    this.scale = columns / wide; // pixels of the photo in one of the screen
    this.paint();
  }

  // ---- mouse and finger

  moveTo(event) {
    const [rows, columns] = this.photo.size, [y, x] = positionIn(this.pad, event);
    this.editor.moveCursor([x * columns, y * rows]);
  }

  pressPointer(event) {
    if (event.button !== 0) return;
    const { editor } = this, reach = REACH * this.scale;
    this.pad.setPointerCapture(event.pointerId);
    if (editor.held === null) this.moveTo(event);
    const corner = editor.region?.points.findIndex((one) => distance(one, editor.cursor) <= reach);
    if (corner >= 0 && !editor.draft?.length) editor.hold(corner);
    else if (editor.mode === "box") editor.draft = [editor.cursor];
    editor.drag = editor.cursor;
    this.paint();
  }

  movePointer(event) {
    if (this.editor.drag === null && this.editor.mode === "box") return;
    this.moveTo(event);
    this.paint();
  }

  releasePointer(event) {
    const { editor } = this;
    if (editor.drag === null) return;
    if (editor.held !== null) return editor.drop();
    this.moveTo(event);
    const still = distance(editor.cursor, editor.drag) <= 4 * this.scale;
    editor.drag = null;
    if (editor.mode === "polygon") editor.addCorner(REACH * this.scale);
    else if (still) editor.selectAt(editor.cursor);
    else editor.add(rectangle(editor.draft[0], editor.cursor));
  }

  // ---- keys

  press(event) {
    const { key } = event, { editor, photo } = this, control = event.ctrlKey || event.metaKey;
    if (event.altKey || (control && !"zy".includes(key.toLowerCase()))) return;
    if (event.target === this.landmark && !control) return;
    if (!photo.size && !["n", "N", "j", "PageUp", "PageDown"].includes(key)) return;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(...photo.size ?? [1]) / 50));
    const move = ([down, right]) => {
      const [x, y] = editor.cursor;
      editor.moveCursor([x + right * step, y + down * step]);
      editor.announce(editor.cursor.join(", "));
      this.paint();
    };
    const corner = () => editor.setCorner(step);
    const onPad = ARROWS[key] ? () => move(ARROWS[key]) : { Enter: corner, " ": corner }[key];
    const anywhere = {
      Escape: () => (editor.draft || editor.held !== null ? editor.cancel() : editor.select(-1)),
      Backspace: () => editor.removeCorner(), Delete: () => editor.delete(),
      x: () => editor.delete(), c: () => editor.close(),
      b: () => editor.setMode("box"), p: () => editor.setMode("polygon"),
      s: () => editor.selectNext(), e: () => editor.holdNext() && this.pad.focus(),
      a: () => editor.setState("accepted"), r: () => editor.setState("rejected"),
      0: () => editor.markNothing(!editor.nothing),
      n: () => this.open(photo.number + (event.shiftKey ? -1 : 1)),
      PageDown: () => this.open(photo.number + 1), PageUp: () => this.open(photo.number - 1),
      j: () => this.model.send({ action: "next" }),
      z: () => (event.shiftKey ? editor.redo() : editor.undo()), y: () => editor.redo(),
    };
    const focused = this.root.activeElement === this.pad;
    const action = (focused && onPad) || anywhere[key.length === 1 ? key.toLowerCase() : key];
    if (!action) return;
    consume(event);
    action();
  }

  // ---- what is shown

  count() {
    const { length } = this.editor.regions;
    return `${length || "no"} region${length === 1 ? "" : "s"}`;
  }

  paint() {
    if (!this.photo.size || !this.scale) return;
    const { editor } = this, { draft, cursor, held, selected } = editor, drawn = [];
    const outline = (points, kind, closed = true) =>
      drawn.push(...cased("path", { d: outlinePath(points, closed) }, `outline ${kind}`));
    const handle = ([cx, cy], kind = "") =>
      drawn.push(svgElement("circle", { class: `handle ${kind}`, cx, cy, r: 5 * this.scale }));
    editor.regions.forEach(({ points, origin, state }, number) =>
      outline(points, `${origin} ${state}${number === selected ? " selected" : ""}`));
    editor.region?.points.forEach((point, number) => handle(point, number === held ? "held" : ""));
    if (draft) {
      const box = editor.mode === "box";
      outline(box ? rectangle(draft[0], cursor) : [...draft, cursor], "draft", box);
      draft.forEach((point) => handle(point));
    }
    if (this.root.activeElement === this.pad && this.pad.matches(":focus-visible")) {
      const [x, y] = cursor, arm = 12 * this.scale;
      drawn.push(...cased("path",
        { d: `M${x - arm} ${y}h${2 * arm}M${x} ${y - arm}v${2 * arm}` }, "cross"));
    }
    this.drawing.replaceChildren(...drawn);
    this.showTools();
    this.showList();
  }

  showTools() {
    const { region, history: { past, future }, mode, nothing } = this.editor;
    for (const [name, one] of Object.entries(this.modes)) {
      one.setAttribute("aria-pressed", String(name === mode));
    }
    this.undoing.disabled = !past.length;
    this.redoing.disabled = !future.length;
    this.deleting.disabled = !region;
    this.accepting.disabled = !region || region.state === "accepted";
    this.rejecting.disabled = !region || region.state === "rejected";
    this.nothing.checked = nothing;
    const [rows, columns] = this.photo.size;
    this.pad.setAttribute("aria-label",
      `${this.photo.name}, ${columns} by ${rows} pixels, ${this.count()}`);
  }

  showList() {
    const { regions, selected } = this.editor;
    const texts = regions.map((region, number) => `${number + 1}: ${describe(region)}`);
    if (String(texts) !== this.listed) {
      const at = [...this.list.querySelectorAll("button")].indexOf(this.root.activeElement);
      this.list.replaceChildren(...texts.map((text, number) =>
        element("li", {}, button(text, () => this.editor.select(number)))));
      this.list.querySelectorAll("button")[at]?.focus({ preventScroll: true });
      this.listed = String(texts);
    }
    this.list.querySelectorAll("button").forEach((one, number) =>
      one.setAttribute("aria-pressed", String(number === selected)));
  }
}

/** In a page there are a few photos, and nothing is kept. */
class AlbumModel extends PageModel {
  constructor({ photos, ...state }) {
    super(state);
    this.photos = photos;
    this.handlers = {};
    this.show(state.number);
  }

  on(event, handler) { this.handlers[event] = handler; }

  show(number) {
    const { jpeg, ...view } = this.photos[number];
    const picture = bytesOf(jpeg);
    const done = this.photos.filter(({ regions, nothing }) =>
      regions.every(({ state }) => state !== "open")
      && (nothing || regions.some(({ state }) => state === "accepted"))).length;
    Object.assign(this.state, { view, picture, progress: { done, total: this.photos.length } });
  }

  send({ action, number, regions, nothing }) {
    const shown = this.state.view.number;
    if (action === "save") {
      Object.assign(this.photos[number], structuredClone({ regions, nothing }));
      this.show(shown);
      return this.handlers["change:progress"]();
    }
    this.show(number ?? (shown + 1) % this.photos.length);
    this.handlers["change:view"]();
  }
}

const { render, renderPage } = defineWidget("annotator", async (model, root) => {
  const annotator = new Annotator(model, root);
  await annotator.ready;
  return annotator;
}, AlbumModel);

export default { render };
