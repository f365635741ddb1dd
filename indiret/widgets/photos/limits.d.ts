// What `photos_page` writes before the page's script, from indiret.retrieval.

declare const FOUND: number, NOT_NEGLIGIBLE: number, STANDS_OUT: number;
declare const LEAST_COMPANY: number, LITTLE_STRUCTURE: number;
