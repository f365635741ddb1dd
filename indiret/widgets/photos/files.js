// Files as they come to the page: chosen, or found in dropped folders; and what is kept of them.

const PHOTO = /\.(jpe?g|jfif|png|gif|webp|avif|bmp|heic|heif|tiff?)$/i;

/** Whether a file is meant to be a photo: notes, films and hidden files are not. */
const isPhoto = ({ name, type }) => !name.startsWith(".") && (type.startsWith("image/") || PHOTO.test(name));

/** Where a file lies in its folder, or its name. */
const pathOf = (file) => file.path ?? (file.webkitRelativePath || file.name);

/** Dropped files, and those in folders. On a disk Chromium reads handles alone; others know none. */
async function droppedFiles(transfer) {
  const files = [...transfer.files], found = [];
  const walk = async (one, path) => {
    if (one.isFile || one.kind === "file") {
      const file = await (one.kind ? one.getFile() : new Promise((...then) => one.file(...then))).catch(() => null);
      if (file) found.push(Object.assign(file, { path }));
      return;
    }
    for await (const inner of one.kind ? one.values() : entriesOf(one)) await walk(inner, `${path}/${inner.name}`);
  };
  const roots = await Promise.all([...transfer.items].map((item) => location.protocol === "file:"
    && item.getAsFileSystemHandle?.().catch(() => null) || item.webkitGetAsEntry?.()));
  for (const root of roots) if (root) await walk(root, root.name);
  return roots.some(Boolean) ? found : files;
}

async function* entriesOf(folder) {
  const reader = folder.createReader();
  for (let part; (part = await new Promise((...then) => reader.readEntries(...then))).length;) yield* part;
}

/** What was kept of photos, in IndexedDB; where that is not allowed, nothing is. */
async function openStore(version) {
  const name = `indiret-photos-${version}`;
  const settled = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  try {
    for (const old of await indexedDB.databases()) { // what another version of the page has kept
      if (old.name.startsWith("indiret-photos-") && old.name !== name) indexedDB.deleteDatabase(old.name);
    }
    const opening = indexedDB.open(name);
    opening.onupgradeneeded = () => opening.result.createObjectStore("photos");
    const database = await settled(opening);
    const ask = async (mode, what) => settled(what(database.transaction("photos", mode).objectStore("photos")));
    return { // nothing is lost but time if the disk is full, or the database gone
      allowed: true,
      get: (key) => ask("readonly", (photos) => photos.get(key)).catch(() => undefined),
      put: (key, value) => ask("readwrite", (photos) => photos.put(value, key)).then(() => true, () => false),
      clear: () => ask("readwrite", (photos) => photos.clear()),
    };
  } catch {
    return { allowed: false, get: async () => undefined, put: async () => false, clear: async () => {} };
  }
}

/** Whether two are likely the same file, in whatever folder. */
const isSame = (one, other) =>
  one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

/** What a file is known by while it is not changed. */
const keyOf = (file) => [pathOf(file), file.size, file.lastModified].join("|");
