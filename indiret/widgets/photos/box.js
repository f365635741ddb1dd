// A box on the query: drawn with the mouse, with a finger after a press on "draw a box", or by keys.

const LEAST_SIDE = 0.04; // of the photo; a smaller drag is none

const BOX_KEYS = "Arrow keys move the cross, with Shift by a little; Enter sets a corner; Escape takes the box away.";

class BoxPad {
  /** `choose` is given [x1, y1, x2, y2] from 0 to 1, or null for the whole photo. */
  constructor(choose) {
    Object.assign(this, { choose, box: null, corner: null, cursor: [0.5, 0.5], drawing: false });
    this.image = element("img", { draggable: "false", alt: "" });
    this.svg = svgElement("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.element = element("div", { class: "pad boxed", tabindex: 0, role: "application",
      "aria-roledescription": "drawing area", "aria-describedby": "box-keys" }, this.image, this.svg);
    const on = (name, action) => this.element.addEventListener(name, (event) => action.call(this, event));
    on("pointerdown", this.begin);
    on("pointermove", this.move);
    on("pointerup", this.end);
    on("pointercancel", () => this.set(this.box));
    on("keydown", this.press);
    on("focus", this.paint);
    on("blur", this.paint);
  }

  show({ url, name, box }) {
    Object.assign(this, { box, corner: null });
    this.image.src = url;
    this.image.alt = name;
    this.element.setAttribute("aria-label", `${name}: draw a box round what you ask about`);
    this.paint();
  }

  placeOf(event) {
    return positionIn(this.element, event).toReversed().map((at) => clamp(at, 0, 1));
  }

  begin(event) {
    if (event.button !== 0 || (event.pointerType === "touch" && !this.drawing)) return;
    this.element.setPointerCapture(event.pointerId);
    this.corner = this.cursor = this.placeOf(event);
  }

  move(event) {
    if (!this.element.hasPointerCapture(event.pointerId)) return;
    this.cursor = this.placeOf(event);
    this.paint();
  }

  end(event) {
    if (this.element.hasPointerCapture(event.pointerId)) this.finish();
  }

  press(event) {
    const far = event.shiftKey ? 0.01 : 0.05, step = ARROWS[event.key]?.toReversed();
    if (step) this.cursor = this.cursor.map((at, axis) => clamp(at + far * step[axis], 0, 1));
    else if (event.key === "Enter" && this.corner) this.finish();
    else if (event.key === "Enter") this.corner = this.cursor;
    else if (event.key === "Escape" && (this.corner || this.box)) this.set(null);
    else return;
    consume(event);
    this.paint();
  }

  get draft() {
    const [[x1, y1], [x2, y2]] = [this.corner, this.cursor];
    return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
  }

  finish() {
    const [x1, y1, x2, y2] = this.draft;
    this.set(Math.min(x2 - x1, y2 - y1) < LEAST_SIDE ? this.box : [x1, y1, x2, y2]);
  }

  set(box) {
    const changed = String(box) !== String(this.box);
    Object.assign(this, { box, corner: null });
    this.paint();
    if (changed) this.choose(box);
  }

  allowTouch(drawing) {
    this.drawing = drawing;
    this.element.style.touchAction = drawing ? "none" : "";
  }

  paint() {
    const box = this.corner ? this.draft : this.box, drawn = [];
    if (box) {
      const [x, y, right, bottom] = box;
      drawn.push(
        svgElement("path", { class: "shade", "fill-rule": "evenodd",
          d: `M0 0H1V1H0ZM${x} ${y}V${bottom}H${right}V${y}Z` }),
        ...cased("rect", { x, y, width: right - x, height: bottom - y }, "outline"));
    }
    if (this.element.matches(":focus-visible")) {
      const [x, y] = this.cursor;
      drawn.push(...cased("path", { d: `M${x - 0.03} ${y}h.06M${x} ${y - 0.03}v.06` }, "cross"));
    }
    this.svg.replaceChildren(...drawn);
  }
}
