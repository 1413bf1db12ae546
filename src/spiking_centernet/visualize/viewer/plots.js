// Firing rate, operations and latency over time, a line for every detector.

const PLOTS = [
  { key: "rate", title: "Firing rate", text: (v) => `${(100 * v).toFixed(1)} %`, other: "Outputs that are not zero" },
  { key: "operations", title: "Synaptic operations per window", text: (v) => `${(v / 1e6).toFixed(1)} M` },
  { key: "latency_ms", title: "Latency", text: (v) => `${v.toFixed(1)} ms` },
];

/** The highest value of a plot's scale: a round number above all, for times above 19 of 20, since first calls are slow. */
function scaleTop(values, key) {
  const sorted = values.sort((a, b) => a - b);
  const most = sorted[key === "latency_ms" ? Math.floor(0.95 * (sorted.length - 1)) : sorted.length - 1] || 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= most * (1 - 1e-9));
}

class Plots {
  constructor(place, store, seek) {
    this.store = store;
    const models = store.about.models;
    const given = PLOTS.filter((plot) => plot.key !== "operations" || models.some((m) => m.counted));
    this.plots = given.map((plot) => {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.dataset.plot = plot.key;
      figure.append(caption, canvas);
      place.append(figure);
      canvas.addEventListener("pointerdown", (event) => {
        const box = canvas.getBoundingClientRect();
        seek(store.firstUs + ((event.clientX - box.left) / box.width) * (store.lastUs - store.firstUs));
      });
      const title = plot.other && !models.some((m) => m.spiking) ? plot.other : plot.title;
      return { ...plot, title, caption, canvas };
    });
  }

  draw(us) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`);
    const { store } = this;
    const now = store.indexAt(us);
    for (const { key, title, text, caption, canvas } of this.plots) {
      const ratio = Math.min(2, devicePixelRatio || 1);
      const w = Math.max(1, Math.round(canvas.clientWidth * ratio)), h = Math.max(1, Math.round(canvas.clientHeight * ratio));
      if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
      const pen = canvas.getContext("2d");
      pen.clearRect(0, 0, w, h);
      const all = store.series.flatMap((series) => [...series.values()].map((row) => row[key]).filter((v) => v != null));
      const highest = all.reduce((a, b) => Math.max(a, b), 0), most = scaleTop(all, key);
      const top = 16 * ratio, x = (k) => ((k - store.first) / Math.max(1, store.count - 1)) * (w - 2) + 1;
      const y = (v) => h - 1 - (Math.min(v, most) / most) * (h - 1 - top);
      pen.strokeStyle = color("line");
      pen.lineWidth = ratio;
      for (const v of [0, most]) { pen.beginPath(); pen.moveTo(0, y(v)); pen.lineTo(w, y(v)); pen.stroke(); }
      pen.fillStyle = color("soft");
      pen.font = `${11 * ratio}px system-ui, sans-serif`;
      pen.fillText(text(most).replace(/\.0 /, " "), 2, top - 5 * ratio);
      const values = [];
      store.series.forEach((series, m) => {
        pen.strokeStyle = color(m ? "second" : "first");
        pen.lineWidth = 2 * ratio;
        pen.setLineDash(m ? [5 * ratio, 3 * ratio] : []);
        pen.beginPath();
        let before = -2;
        const keys = [...series.keys()].sort((a, b) => a - b);
        for (const k of keys) {
          const v = series.get(k)[key];
          if (v == null) continue;
          if (k === before + 1) pen.lineTo(x(k), y(v));
          else { pen.moveTo(x(k) - ratio, y(v)); pen.lineTo(x(k), y(v)); }
          before = k;
        }
        pen.stroke();
        const v = series.get(now)?.[key];
        values.push(v == null ? "-" : text(v));
      });
      pen.setLineDash([]);
      pen.strokeStyle = color("ink");
      pen.lineWidth = ratio;
      pen.beginPath();
      pen.moveTo(x(now), 0);
      pen.lineTo(x(now), h);
      pen.stroke();
      caption.textContent = `${title}: ${values.join(" | ")}`;
      canvas.setAttribute("aria-label", `${caption.textContent}; highest ${text(highest)}`);
    }
  }
}
