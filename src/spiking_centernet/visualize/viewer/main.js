// The page: what is shown, and how it moves.

const about = readJson("description"), look = readJson("look");
document.documentElement.dataset.kind = about.kind;
const calm = matchMedia("(prefers-reduced-motion: reduce)"), night = matchMedia("(prefers-color-scheme: dark)");
const now = { us: about.first_us, playing: false, theme: night.matches ? "dark" : "light", drawn: -1, threshold: null, listed: [] };
const store = new Store(about, look, arrived);
if (about.start) now.us = store.timeOf(about.start);
// A server does not know yet where the first box is; the first seconds are fetched ahead in any case.
const SEARCHED = 60;
now.search = about.kind === "served" ? 0 : null;

fillChoices(about);
const pictures = about.models.map((model) => {
  const panel = $("panel").content.cloneNode(true).firstElementChild;
  panel.querySelector(".name").textContent = model.name;
  panel.querySelector(".track").hidden = !about.tracked;
  $("panels").append(panel);
  const canvas = panel.querySelector(".picture");
  canvas.addEventListener("click", toggle);
  return { panel, canvas, model, picture: new Picture(canvas, about.size_hw, look) };
});
$("panels").classList.toggle("two", pictures.length > 1);
const plots = new Plots($("plots"), store, seek);
const spikes = new Spikes($("spikes"), $("spikes-note"), store);

const shownUs = () => 1000 * SHOWN_MS(Number($("shown").value));
/** What the slider says for all, before it is moved every detector's own. */
const threshold = (m) => now.threshold ?? about.models[m].threshold;

function seek(us) {
  now.search = null;
  now.us = Math.min(Math.max(us, store.firstUs), store.lastUs);
  draw();
}

function toggle() {
  now.search = null;
  now.playing = !now.playing;
  if (about.kind === "live") $("follow").checked = now.playing;
  else if (now.playing && now.us >= store.lastUs) now.us = store.firstUs;
  $("play").textContent = now.playing ? "Pause" : "Play";
  now.before = performance.now();
  if (now.playing) requestAnimationFrame(tick);
}

function tick(at) {
  if (!now.playing) return;
  if (about.kind === "live") {
    if ($("follow").checked && store.count) now.us = store.lastUs;
  } else {
    const next = now.us + (at - now.before) * 1000 * Number($("speed").value);
    const wanted = store.indexAt(next);
    // Time stands still until what comes next is there.
    if (store.get(wanted)) now.us = Math.min(next, store.lastUs);
    else want(wanted);
  }
  now.before = at;
  // Without motion, and live, the picture changes only from frame to frame.
  const still = calm.matches || about.kind === "live";
  if (!still || store.indexAt(now.us) !== now.drawn) paint();
  if (now.us >= store.lastUs && about.kind !== "live") toggle();
  else requestAnimationFrame(tick);
}

function want(k) {
  const back = Math.ceil(shownUs() / about.every_us);
  for (let j = k; j >= k - back; j--) store.want(j);
  for (let j = k + 1; j < k + 25; j++) store.want(j);
}

/** Go to the first frame with a box, until somebody goes elsewhere. */
function search() {
  while (now.search !== null && store.get(now.search)) {
    if (about.models.some((_, m) => visible(store.get(now.search), m).length)) return seek(store.timeOf(now.search));
    now.search = now.search + 1 < Math.min(store.count, SEARCHED) ? now.search + 1 : null;
  }
  if (now.search !== null) store.want(now.search);
}

function arrived(k) {
  if (now.search !== null) search();
  if (about.kind === "live" && $("follow").checked && store.count) { now.us = store.lastUs; }
  now.fresh = true;
  const near = Math.abs(k - store.indexAt(now.us)) <= RASTER_FRAMES;
  if (k < 0 || store.failure || (!now.playing && near)) draw();
  else if (!now.playing) plots.draw(now.us);
}

/** Draw at the browser's next chance, once for all that changes until then. */
function draw() {
  if (now.scheduled) return;
  now.scheduled = true;
  requestAnimationFrame(() => { now.scheduled = false; paint(); });
}

async function paint() {
  const turn = (now.turn = {});
  if (!store.count) return status();
  const us = calm.matches ? store.timeOf(store.indexAt(now.us)) : now.us;
  const k = store.indexAt(us);
  now.drawn = k;
  want(k);
  const frame = store.get(k);
  const frames = [];
  for (let j = store.indexAt(us - shownUs()); j <= k + 1; j++) if (store.get(j)) frames.push(store.get(j));
  status();
  for (const [m, { panel, canvas, model, picture }] of pictures.entries()) {
    panel.querySelector(".wait").hidden = Boolean(frame) || Boolean(store.failure);
    const bytes = frame && $("heatmap").checked ? await store.array(k, m, "heatmap") : null;
    if (turn !== now.turn) return;
    const boxes = frame ? visible(frame, m) : [];
    picture.draw({
      frames, us, shownUs: shownUs(), mode: $("mode").value, theme: now.theme, classes: model.classes,
      boxes: $("boxes").checked ? boxes : [], truth: frame?.truth && $("truth").checked ? frame.truth : [],
      trails: about.tracked && $("tracks").checked ? trails(k, m) : [],
      heatmap: bytes && { bytes, hw: model.heatmap_hw, stride: model.stride },
    });
    list(panel, m, model, boxes);
    canvas.setAttribute("aria-label", `Events at ${(us * 1e-6).toFixed(3)} s with ${boxes.length} boxes of ${model.name}`);
    panel.querySelector(".count").textContent = frame ? `${boxes.length} ${boxes.length === 1 ? "box" : "boxes"}${lateness(frame)}` : "";
  }
  plots.draw(us);
  document.documentElement.dataset.frame = frame ? k : "";
  const looked = [k, $("model").value, $("layer").value, $("view").value, $("step").value, now.theme];
  if (!frame || (!now.fresh && now.looked === looked.join())) return;
  now.fresh = false;
  now.looked = looked.join();
  rates(frame);
  spikes.draw(k, Number($("model").value), Number($("layer").value), $("view").value, Number($("step").value));
}

function lateness(frame) {
  if (about.kind !== "live") return "";
  return `, ${frame.lag_ms.toFixed(0)} ms behind${frame.skipped ? `, ${frame.skipped} windows skipped` : ""}`;
}

function visible(frame, m) {
  const tracked = about.tracked && $("tracks").checked;
  return frame.models[m].boxes.filter((row) => row[4] >= threshold(m) && (!tracked || row[6] >= 0));
}

/** The way of every visible object's center in the last second. */
function trails(k, m) {
  const found = new Map();
  for (let j = Math.max(store.first, k - Math.ceil(1e6 / about.every_us)); j <= k; j++) {
    for (const row of store.get(j) ? visible(store.get(j), m) : []) {
      if (!found.has(row[6])) found.set(row[6], { points: [], label: row[5] });
      found.get(row[6]).points.push([(row[0] + row[2]) / 2, (row[1] + row[3]) / 2]);
    }
  }
  return [...found.values()];
}

function list(panel, m, model, boxes) {
  const text = JSON.stringify(boxes);
  if (now.listed[m] === text) return;
  now.listed[m] = text;
  panel.querySelector("tbody").replaceChildren(...boxes.map((row) => {
    const line = document.createElement("tr");
    const cells = [model.classes[row[5]], row[4].toFixed(3), row.slice(0, 4).map((v) => v.toFixed(1)).join(", ")];
    if (about.tracked) cells.push(row[6] >= 0 ? row[6] : "");
    for (const text of cells) line.insertCell().textContent = text;
    const mark = document.createElement("i");
    mark.style.background = rgb(look.classes[row[5] % look.classes.length]);
    line.cells[0].prepend(mark);
    return line;
  }));
}

function rates(frame) {
  const m = Number($("model").value);
  const shares = frame ? frame.models[m].rates : [];
  const most = Math.max(...shares, 1e-9);
  $("rates").replaceChildren(...shares.map((share, k) => {
    const line = document.createElement("div"), name = document.createElement("span");
    const bar = document.createElement("meter"), value = document.createElement("span");
    line.className = "rate";
    name.textContent = about.models[m].layers[k].name;
    bar.max = most;
    bar.value = share;
    value.textContent = `${(100 * share).toFixed(2)} %`;
    line.append(name, bar, value);
    return line;
  }));
}

function status() {
  const note = (text) => { const p = document.createElement("p"); p.textContent = text; return p; };
  const texts = store.failure ? [...about.notes, store.failure] : about.notes;
  if (now.notes !== texts.join()) { now.notes = texts.join(); $("notes").replaceChildren(...texts.map(note)); }
  const scrub = $("scrub");
  scrub.min = store.count ? store.firstUs : 0;
  scrub.max = store.count ? store.lastUs : 1;
  scrub.value = now.us;
  const seconds = (us) => (us * 1e-6).toFixed(3);
  $("clock").textContent = store.count ? `${seconds(now.us)} s of ${seconds(store.lastUs)} s` : "waiting for events";
  scrub.setAttribute("aria-valuetext", $("clock").textContent);
  $("threshold-value").textContent = [...new Set(about.models.map((_, m) => threshold(m)))].map((v) => +v.toFixed(3)).join(", ");
  $("shown-value").textContent = `${SHOWN_MS(Number($("shown").value))} ms`;
}

function setTheme(theme) {
  now.theme = theme;
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
  $("key-on").style.background = rgb(look.themes[theme].on);
  $("key-off").style.background = rgb(look.themes[theme].off);
  draw();
}

const stepBy = (by) => seek(store.timeOf(Math.min(Math.max(store.indexAt(now.us) + by, store.first), store.first + store.count - 1)));
const act = {
  toggle, step: (by) => { if (now.playing) toggle(); stepBy(by); }, begin: () => seek(store.firstUs),
  end: () => seek(store.lastUs), theme: () => setTheme(now.theme === "dark" ? "light" : "dark"),
};
$("play").addEventListener("click", toggle);
$("back").addEventListener("click", () => act.step(-1));
$("ahead").addEventListener("click", () => act.step(1));
$("theme").addEventListener("click", act.theme);
$("help-open").addEventListener("click", () => $("help").showModal());
$("scrub").addEventListener("input", () => { $("follow").checked = false; seek(Number($("scrub").value)); });
$("shown").addEventListener("input", draw);
$("threshold").addEventListener("input", () => { now.threshold = Number($("threshold").value); draw(); });
for (const id of ["mode", "boxes", "tracks", "truth", "heatmap", "layer", "view", "step", "follow"]) $(id).addEventListener("change", draw);
$("model").addEventListener("change", () => { fillLayers(about.models[Number($("model").value)]); draw(); });
night.addEventListener("change", () => setTheme(night.matches ? "dark" : "light"));
addEventListener("resize", draw);
bindKeys(act);

const thresholds = about.models.map((model) => model.threshold);
$("threshold").min = Math.min(...about.models.map((model) => model.least_score));
$("threshold").value = Math.min(...thresholds);
$("shown").value = 13;
const size = `${about.size_hw[1]} x ${about.size_hw[0]} pixels`;
$("lead").textContent = about.kind === "live" ? `live, ${size}` : `${about.num_frames} frames, one every ${about.every_us / 1000} ms, ${size}`;
$("plot-key").hidden = about.models.length < 2;
$("plot-key").textContent = about.models.map((model, m) => `${m ? "dashed" : "solid"}: ${model.name}`).join(", ");
$("about").textContent = about.models.map((model) => [
  `${model.name}: windows of ${model.window_us / 1000} ms, ${model.num_steps} steps`,
  model.parameters ? `${(model.parameters / 1e6).toFixed(2)} M parameters` : "", `threshold ${model.own_threshold}`,
  model.scale === "1" ? "" : `events binned at ${model.scale} of the sensor's resolution`,
].filter(Boolean).join(", ")).join("; ");
setTheme(now.theme);
if (about.kind === "live") toggle();
