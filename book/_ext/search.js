// Read by the search page alone: chapters come before pages of the library, and excerpts of pages
// come from excerpts.js, since a browser fetches no page from a disk.

var Scorer = {
  score: ([page, , , , score]) =>
    score + (page.startsWith("notebooks/") ? 40 : page.startsWith("book/api/") ? -20 : 0),
  // Sphinx's own, from here.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

const fetchFromServer = window.fetch;
window.fetch = (address, ...more) => {
  const home = new URL(document.documentElement.dataset.content_root, location.href).href;
  const text = EXCERPTS[new URL(address, location.href).href.slice(home.length)];
  if (text === undefined) return fetchFromServer(address, ...more);
  const main = document.createElement("div");
  main.setAttribute("role", "main");
  main.textContent = text;
  return Promise.resolve(new Response(main.outerHTML));
};
