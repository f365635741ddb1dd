// The explorer as a widget of a notebook, and of a page.

const { render, renderPage } = defineWidget("explorer", async (model, root) => {
  const explorer = new Explorer(model, root, await unpackChannels(model.get("payload")));
  await Promise.all([explorer.query, explorer.target].map(({ image }) => image.decode()));
  return explorer;
});

export default { render };
