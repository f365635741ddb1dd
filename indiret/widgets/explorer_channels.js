// Channels of patch pairs: payload.py packs what is unpacked here. A channel's values are bytes by
// target patch × query patch; `strength` says what share of the strongest pair a byte is, 0 … 1.

const MOST_PAIRS = 30; // on the slider

/** → {query, candidates}, each candidate's channels with their values and strengths. */
async function unpackChannels(bytes) {
  const { header, take } = await unpack(bytes);
  header.query.url = pictureUrl(take(header.query.jpeg));
  for (const candidate of header.candidates) {
    candidate.url = pictureUrl(take(candidate.jpeg));
    const length = [...candidate.grid, ...header.query.grid].reduce((a, b) => a * b);
    for (const channel of candidate.channels) {
      gradeChannel(Object.assign(channel, { values: take(length) }));
    }
  }
  return header;
}

/** A channel with what each byte is: a real value, and a share of the strongest pair. */
function gradeChannel(channel) {
  const { low, high } = channel;
  channel.real = Float64Array.from({ length: 256 }, (_, v) => low + ((high - low) * v) / 255);
  channel.strength = channel.real.map((real) => (high > 0 ? Math.max(0, real / high) : 0));
  return channel;
}

/** Strongest first; equal ones in order of place, as numpy's argmax has it. */
function strongest(values, strength) {
  return [...values.keys()]
    .filter((place) => strength[values[place]] > 0)
    .sort((a, b) => values[b] - values[a] || a - b);
}

/** As Evidence.matches: every target and every query patch is used once at most. */
function bestMatches(channel, queryPatches) {
  if (!channel.matches) {
    const targets = new Set(), queries = new Set();
    channel.matches = [];
    for (const place of strongest(channel.values, channel.strength)) {
      const target = Math.floor(place / queryPatches), query = place % queryPatches;
      if (targets.has(target) || queries.has(query)) continue;
      targets.add(target);
      queries.add(query);
      channel.matches.push({ target, query, value: channel.values[place] });
      if (channel.matches.length === MOST_PAIRS) break;
    }
  }
  return channel.matches;
}

/** Values of one patch with all patches of the other side, as bytes. */
function valuesOfPatch({ values }, side, patch, queryPatches) {
  if (side === "target") return values.subarray(patch * queryPatches, (patch + 1) * queryPatches);
  return Uint8Array.from(
    { length: values.length / queryPatches }, (_, t) => values[t * queryPatches + patch],
  );
}

/** Maps over both pictures: sums of evidence (Eq. 4); of a view, the best value of each patch. */
function sideMaps(channel, queryPatches) {
  if (!channel.maps) {
    const target = new Float64Array(channel.values.length / queryPatches);
    const query = new Float64Array(queryPatches);
    const pool = channel.low < 0 ? Math.max : (a, b) => a + b;
    channel.values.forEach((value, place) => {
      const t = Math.floor(place / queryPatches), q = place % queryPatches;
      target[t] = pool(target[t], channel.strength[value]);
      query[q] = pool(query[q], channel.strength[value]);
    });
    const scaled = (map) => map.map((value) => value / (Math.max(...map) || 1));
    channel.maps = { target: scaled(target), query: scaled(query) };
  }
  return channel.maps;
}
