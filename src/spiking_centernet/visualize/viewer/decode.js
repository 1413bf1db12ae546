// Texts of packing.py back into arrays.

const $ = (id) => document.getElementById(id);
const readJson = (id) => JSON.parse($(id).textContent);

async function bytesOf(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const TIME_BINS = 256;

/** Events of the interval before stopUs: t in microseconds (the middle of its part), x, y, p. */
async function eventsOf(packed, stopUs, lengthUs) {
  const n = packed.kept;
  const b = await bytesOf(packed.data);
  const t = new Float64Array(n), x = new Uint16Array(n), y = new Uint16Array(n), p = new Uint8Array(n);
  const start = stopUs - lengthUs;
  for (let i = 0; i < n; i++) {
    t[i] = start + ((b[i] + 0.5) * lengthUs) / TIME_BINS;
    x[i] = b[n + i] | (b[2 * n + i] << 8);
    y[i] = b[3 * n + i] | (b[4 * n + i] << 8);
    p[i] = (b[5 * n + (i >> 3)] >> (7 - (i & 7))) & 1;
  }
  return { t, x, y, p };
}

const bitOf = (bytes, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1;
