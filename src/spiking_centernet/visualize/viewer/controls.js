// What can be set, by pointer and by key.

const SPEEDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 4];
const SHOWN_MS = (step) => Math.round(2 * 10 ** (step / 10));  // 2 ms to 200 ms

const KEYS = [
  [["Space"], "play, pause"], [["\u2190", "\u2192"], "frame before, next frame; with Shift ten"],
  [["Home", "End"], "begin, end"], [["-", "+"], "slower, faster"], [["[", "]"], "lower, higher threshold"],
  [["B"], "boxes"], [["T"], "tracks"], [["G"], "labels"], [["M"], "heatmap"], [["E"], "events: polarity, time surface, none"],
  [["L"], "next layer; with Shift the one before"], [["R"], "planes, raster"], [["D"], "dark, light"], [["?"], "this list"],
];

function fillChoices(about) {
  for (const speed of SPEEDS) $("speed").add(new Option(`${speed}x`, speed, speed === 1, speed === 1));
  about.models.forEach((model, m) => $("model").add(new Option(model.name, m)));
  $("model-label").hidden = about.models.length < 2;
  if (about.kind === "live") {
    // It keeps no spikes of single neurons.
    for (const id of ["view-label", "step-label"]) $(id).hidden = true;
    $("view").value = "raster";
  }
  $("tracks-label").hidden = !about.tracked;
  $("truth-label").hidden = !about.labeled;
  fillLayers(about.models[0]);
  for (const [keys, what] of KEYS) {
    const term = document.createElement("dt"), text = document.createElement("dd");
    for (const key of keys) { const k = document.createElement("kbd"); k.textContent = key; term.append(k); }
    text.textContent = what;
    $("keys").append(term, text);
  }
}

function fillLayers(model) {
  const layer = $("layer"), step = $("step");
  layer.replaceChildren(...model.layers.map((l, k) => new Option(`${l.name}${l.planes === false ? " (raster only)" : ""}`, k)));
  // The first whose single spikes the page has.
  layer.selectedIndex = Math.max(0, model.layers.findIndex((l) => l.planes !== false));
  step.replaceChildren(new Option("all", -1), ...Array.from({ length: model.num_steps }, (_, s) => new Option(`${s + 1}`, s)));
}

function cycle(select, by) {
  select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
  select.dispatchEvent(new Event("change"));
}

function flip(id) {
  if ($(id).parentElement.hidden) return;
  $(id).checked = !$(id).checked;
  $(id).dispatchEvent(new Event("change"));
}

function nudge(id, by) {
  $(id).value = Number($(id).value) + by;
  $(id).dispatchEvent(new Event("input"));
}

function bindKeys(act) {
  const table = {
    " ": act.toggle, ArrowLeft: (e) => act.step(e.shiftKey ? -10 : -1), ArrowRight: (e) => act.step(e.shiftKey ? 10 : 1),
    Home: act.begin, End: act.end, "-": () => $("speed").selectedIndex > 0 && cycle($("speed"), -1),
    "+": () => $("speed").selectedIndex < SPEEDS.length - 1 && cycle($("speed"), 1), "[": () => nudge("threshold", -0.05),
    "]": () => nudge("threshold", 0.05), b: () => flip("boxes"), t: () => flip("tracks"), g: () => flip("truth"),
    m: () => flip("heatmap"), e: () => cycle($("mode"), 1), l: (e) => cycle($("layer"), e.shiftKey ? -1 : 1),
    r: () => !$("view-label").hidden && cycle($("view"), 1), d: act.theme, "?": () => $("help").showModal(),
  };
  table["="] = table["+"];
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const kind = event.target.tagName;
    // A control keeps the keys that are its own.
    if (kind === "SELECT" && (event.key.length === 1 || /^(Arrow|Home|End|Enter)/.test(name))) return;
    if (kind === "INPUT" && (event.target.type === "range" ? /^(Arrow|Home|End|Page)/.test(name) : name === " ")) return;
    if ((kind === "BUTTON" || kind === "SUMMARY") && name === " ") return;
    if (!Object.hasOwn(table, name)) return;
    event.preventDefault();
    table[name](event);
  });
}
