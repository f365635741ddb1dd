// The ranked photos as a strip: each opens its evidence. It changes while results stream in.

const SOON = 250; // ms between changes while many come

class Ranking {
  /** `open` is given the photo that was chosen. */
  constructor(open) {
    Object.assign(this, { open, cards: new Map(), hits: [], final: false });
    this.list = element("div", { class: "choices" });
    this.element = element("fieldset", { class: "ranking" },
      element("legend", {}, "Ranked photos, the likeliest first"), this.list);
  }

  card(photo) {
    if (!this.cards.has(photo)) {
      const input = element("input", { type: "radio", name: "hit", class: "sr" });
      input.addEventListener("change", () => this.open(photo));
      const caption = element("figcaption");
      const image = element("img", { src: photo.url, alt: photo.name, title: photo.name, loading: "lazy" });
      const label = element("label", { class: "choice" }, input, element("figure", {}, image, caption));
      this.cards.set(photo, { label, input, caption });
    }
    return this.cards.get(photo);
  }

  /** Hits best first, {photo, probability, judged}; soon if more are to come. */
  show(hits, final) {
    Object.assign(this, { hits, final });
    if (final) this.paint();
    else this.pending ??= setTimeout(() => this.paint(), SOON);
  }

  paint() {
    clearTimeout(this.pending);
    this.pending = null;
    const focused = /** @type {HTMLElement} */ (document.activeElement);
    this.hits.forEach(({ photo, probability, judged }, place) => {
      const { label, caption } = this.card(photo);
      caption.textContent = `${place + 1} · ${judged ? percent(probability) : this.final ? "not judged" : "…"}`;
      label.classList.toggle("likely", judged && probability >= FOUND);
      if (this.list.children[place] !== label) this.list.insertBefore(label, this.list.children[place] ?? null);
    });
    if (this.list.contains(focused)) focused.focus({ preventScroll: true });
  }

  select(photo) {
    this.card(photo).input.checked = true;
  }

  clear() {
    this.cards.clear();
    this.hits = [];
    this.list.replaceChildren();
  }
}
