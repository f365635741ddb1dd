// What can be taken away: the ranked list for a spreadsheet, and the results as one page.

const EXPORTED = 10; // hits with their evidence in the page
const EXPORT_STYLE = `
:root { color-scheme: light dark; } body { margin: 0 auto; max-width: 60rem; padding: 1rem;
  font: 1rem/1.5 system-ui, sans-serif; } h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 0; }
h1, h2, p, td { overflow-wrap: anywhere; } article { border-top: 1px solid #8886; padding: .8rem 0; }
svg { display: block; width: 100%; height: auto; max-height: 24rem; } td, th { padding: .1rem .8rem .1rem 0;
  text-align: left; } .under { stroke: #22252b; } .pair { stroke: #ffb000; } line { stroke-linecap: round; }`;

function save(parts, type, name) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function saveCsv(hits) {
  const rows = hits.map(({ photo, probability, score, judged }, place) => [
    place + 1, photo.path, ...(judged ? [probability.toFixed(4), score.toFixed(3)].map(Number) : ["", ""]),
    Number(photo.features.structure.toFixed(3)),
  ]);
  const head = ["rank", "photo", "probability", "score", "structure"];
  save(["\ufeff", csv([head, ...rows])], "text/csv", "ranked.csv"); // the mark lets Excel read UTF-8
}

/** A photo under its evidence, as an address that holds it. */
async function warmPicture(url, values, grid) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const heat = element("canvas"), context = canvas.getContext("2d");
  paintHeat(heat, values, grid, OPACITY);
  context.filter = "grayscale(.65) brightness(.82)";
  context.drawImage(image, 0, 0);
  context.filter = "none";
  context.imageSmoothingEnabled = false;
  context.drawImage(heat, 0, 0, canvas.width, canvas.height);
  return { href: canvas.toDataURL("image/jpeg", 0.85), aspect: canvas.width / canvas.height };
}

async function evidenceDrawing(data, description) {
  const [target] = data.candidates, [channel] = target.channels, height = 300, gap = 24;
  const queryPatches = data.query.grid[0] * data.query.grid[1], maps = sideMaps(channel, queryPatches);
  const sides = [await warmPicture(data.query.url, maps.query, data.query.grid),
    await warmPicture(target.url, maps.target, target.grid)];
  const starts = [0, height * sides[0].aspect + gap];
  const images = sides.map(({ href, aspect }, side) =>
    svgElement("image", { href, x: starts[side], y: 0, width: height * aspect, height }));
  const centre = (side, patch, [rows, columns]) => [
    starts[side] + (height * sides[side].aspect * ((patch % columns) + 0.5)) / columns,
    (height * (Math.floor(patch / columns) + 0.5)) / rows];
  const lines = bestMatches(channel, queryPatches).slice(0, 10).toReversed().flatMap((pair) => {
    const [x1, y1] = centre(0, pair.query, data.query.grid);
    const [x2, y2] = centre(1, pair.target, target.grid);
    return cased("line", { x1, y1, x2, y2 }, "pair", 0.8 + 1.7 * channel.strength[pair.value]);
  });
  const width = starts[1] + height * sides[1].aspect;
  return svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description },
    ...images, ...lines);
}

/** The results as one page that asks for nothing; nothing if `explain` of a photo gives nothing. */
async function savePage(query, hits, explain) {
  const page = document.implementation.createHTMLDocument(`Photos like ${query.name}`);
  page.documentElement.lang = "en";
  const policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
  page.head.prepend(element("meta", { charset: "utf-8" }),
    element("meta", { "http-equiv": "Content-Security-Policy", content: policy }),
    element("meta", { name: "viewport", content: "width=device-width, initial-scale=1" }));
  page.head.append(element("style", {}, EXPORT_STYLE));
  const say = ({ probability, judged }) => (judged ? percent(probability) : "not judged");
  page.body.append(element("h1", {}, page.title));
  for (const [place, hit] of hits.slice(0, EXPORTED).entries()) {
    const words = answerWords({ ...hit, structure: [query.features.structure, hit.photo.features.structure] });
    const found = await explain(hit.photo);
    if (!found) return false;
    const data = explorerData(query, hit.photo, found);
    page.body.append(element("article", {}, element("h2", {}, `${place + 1}. ${hit.photo.path}`),
      element("p", {}, hit.judged ? `${words.title} Probability ${say(hit)}. ${words.detail}` : "Not judged."),
      await evidenceDrawing(data, `${query.name} and ${hit.photo.name} under their evidence`)));
    [data.query, data.candidates[0]].forEach(({ url }) => URL.revokeObjectURL(url));
  }
  if (hits.length > EXPORTED) {
    page.body.append(element("h2", {}, "And after them"), element("table", {}, ...hits.slice(EXPORTED).map(
      (hit, more) => element("tr", {}, element("td", {}, `${EXPORTED + more + 1}`),
        element("td", {}, hit.photo.path), element("td", {}, say(hit))))));
  }
  save([`<!doctype html>\n${page.documentElement.outerHTML}`], "text/html", "results.html");
  return true;
}
