// The evidence of one pair in the explorer, with where the plane puts the query's frame and patches.

const PAIR_STYLE = `
.landed { fill: none; stroke: var(--good); stroke-width: 2; }
.landed.doubtful { stroke-dasharray: 5 5; }
`;

/** What the matcher explains of two photos, as the explorer shows it. */
function explorerData(query, target, { values, P, Q, affine, frame, probability }) {
  const high = values.reduce((most, value) => Math.max(most, value), 0);
  const bytes = Uint8Array.from(values, (value) => Math.round((255 * value) / (high || 1)));
  const channel = gradeChannel({ group: "support", name: "planes", low: 0, high, values: bytes });
  const picture = (photo, { rows, columns }) => ({
    name: photo.name, size: photo.size, grid: [rows, columns], url: URL.createObjectURL(photo.shown),
  });
  const candidate = { ...picture(target, P), caption: "", relevant: null, true_matches: null, channels: [channel] };
  return { query: picture(query, Q), candidates: [candidate], affine, frame, doubtful: probability < FOUND };
}

class PairExplorer extends Explorer {
  /** @param {ReturnType<typeof explorerData>} data */
  constructor(root, data) {
    const state = { opened: 0, channel: ["support", "planes"], pairs: 10, truth: false, pinned: null };
    super(new PageModel(state), root, data);
    root.append(element("style", {}, PAIR_STYLE));
  }

  drawLines(joined, truth, active, ...more) {
    super.drawLines(joined, truth, active, ...more);
    const { affine, frame, doubtful } = this.data, { pad } = this.target;
    if (!frame.flat().every(Number.isFinite)) return; // the best plane is no map
    const at = ([y, x]) => [pad.offsetLeft + x * pad.clientWidth, pad.offsetTop + y * pad.clientHeight];
    const kind = doubtful ? "landed doubtful" : "landed", inside = { "clip-path": "url(#inside)" };
    const [left, top] = at([0, 0]);
    const clip = svgElement("clipPath", { id: "inside" },
      svgElement("rect", { x: left, y: top, width: pad.clientWidth, height: pad.clientHeight }));
    const drawn = cased("polygon", { points: frame.map(at).join(" "), ...inside }, kind);
    if (active?.side === this.query) {
      const [rows, columns] = active.side.grid, { patch } = active;
      const y = (Math.floor(patch / columns) + 0.5) / rows, x = ((patch % columns) + 0.5) / columns;
      const [cx, cy] = at(affine.map(([down, right, from]) => down * y + right * x + from));
      drawn.push(...cased("circle", { cx, cy, r: 7, ...inside }, kind));
    }
    this.lines.append(clip, ...drawn);
  }
}

/** Show the evidence in an element; → the explorer, once its pictures are there. */
async function showPair(holder, data) {
  const host = element("div");
  const explorer = new PairExplorer(host.attachShadow({ mode: "open" }), data);
  await Promise.all([explorer.query, explorer.target].map(({ image }) => image.decode()));
  holder.replaceChildren(host);
  explorer.fit();
  return explorer;
}
