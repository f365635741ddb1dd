// For the type checker alone: what scripts that are joined into one page share, and what their
// classes are given through Object.assign.

declare const percent: typeof import("./photos/words.js").percent;
declare const answerWords: typeof import("./photos/words.js").answerWords;
declare const isFound: typeof import("./photos/words.js").isFound;
declare const csv: typeof import("./photos/words.js").csv;
declare const matcherData: typeof import("./match/data.js").matcherData;
declare const createWorkerPool: typeof import("./match/pool.js").createWorkerPool;
declare const release: typeof import("./match/memory.js").release;

type Point = [number, number];
type Side = [rows: number, columns: number];
type Box = [left: number, top: number, right: number, bottom: number];

interface Region {
  points: Point[];
  landmark: string;
  origin: "drawn" | "query" | "sift";
  state: "open" | "accepted" | "rejected";
  inliers?: number;
}

interface RegionEditor {
  announce(words: string): void;
  paint(): void;
  save(regions: Region[], nothing: boolean): void;
  landmark(): string;
  histories: Map<number, { past: object[]; future: object[] }>;
  size: Side | null;
  nothing: boolean;
}

interface BoxPad {
  choose(box: Box | null): void;
  box: Box | null;
}

interface Ranking {
  open(photo: Photo): void;
  cards: Map<Photo, { label: HTMLElement; input: HTMLInputElement; caption: HTMLElement }>;
  final: boolean;
}

interface Photo {
  file: File;
  name: string;
  path: string;
  key: string;
  url?: string;
  shown: Blob;
  size: Side;
}

interface PhotosPage {
  pool: ReturnType<typeof createWorkerPool>;
  store: Awaited<ReturnType<typeof openStore>>;
  workers: number;
  began: number;
  done: number;
}
