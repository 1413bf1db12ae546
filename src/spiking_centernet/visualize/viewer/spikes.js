// One layer of one detector: a cell for every channel, or a line for every channel over time.

const RASTER_FRAMES = 24;

class Spikes {
  constructor(canvas, note, store) {
    Object.assign(this, { canvas, note, store });
    this.empty("Computing ...");
  }

  async draw(k, m, layerIndex, view, step) {
    const ask = (this.ask = {});
    const about = this.store.about.models[m];
    const layer = about.layers[layerIndex];
    const style = getComputedStyle(document.documentElement);
    const hex = (name) => style.getPropertyValue(`--${name}`).match(/[0-9a-f]{2}/gi).map((v) => parseInt(v, 16));
    const colors = { ground: hex("ground"), ink: hex("first"), line: hex("line") };
    if (view === "planes") await this.planes(ask, k, m, layerIndex, layer, about, step, colors);
    else await this.raster(ask, k, m, layerIndex, layer, about, colors);
  }

  async planes(ask, k, m, index, layer, about, step, colors) {
    const bytes = await this.store.spikes(k, m, this.store.about.kind === "file" ? layer.name : index);
    if (ask !== this.ask) return;
    if (!bytes) {
      const why = !this.store.get(k) ? "This frame is not computed yet."
        : "This file holds no single spikes of this layer, which is large; see the raster, or scn view.";
      return this.empty(why);
    }
    const [channels, h, w] = layer.shape;
    const steps = about.num_steps;
    const columns = Math.max(1, Math.min(channels, Math.round(Math.sqrt((channels * h * 2.2) / w))));
    const rows = Math.ceil(channels / columns);
    const image = this.begin(columns * (w + 1) - 1, rows * (h + 1) - 1, colors.line);
    let spikes = 0;
    for (let c = 0; c < channels; c++) {
      const [left, top] = [(c % columns) * (w + 1), Math.floor(c / columns) * (h + 1)];
      for (let i = 0; i < h * w; i++) {
        let n = 0;
        if (step < 0) for (let s = 0; s < steps; s++) n += bitOf(bytes, (s * channels + c) * h * w + i);
        else n = bitOf(bytes, (step * channels + c) * h * w + i);
        spikes += n;
        this.set(image, left + (i % w), top + Math.floor(i / w), colors.ground, colors.ink, n ? 0.4 + (0.6 * n) / (step < 0 ? steps : 1) : 0);
      }
    }
    this.end(image);
    this.canvas.dataset.spikes = spikes;
    const what = about.spiking ? "spikes" : "outputs that are not zero";
    this.note.textContent = `${layer.name}: ${spikes} ${what} of ${channels} channels x ${h} x ${w} neurons, `
      + (step < 0 ? `all ${steps} steps of the window` : `step ${step + 1} of ${steps}`);
  }

  async raster(ask, k, m, index, layer, about, colors) {
    const store = this.store;
    const from = Math.max(store.first, k - RASTER_FRAMES + 1);
    const arrays = [];
    for (let j = from; j <= k; j++) arrays.push(await store.array(j, m, "channels"));
    if (ask !== this.ask) return;
    if (!arrays.some(Boolean)) return this.empty("This frame is not computed yet.");
    const before = about.layers.slice(0, index).reduce((sum, l) => sum + l.shape[0], 0);
    const all = about.layers.reduce((sum, l) => sum + l.shape[0], 0);
    const channels = layer.shape[0], steps = about.num_steps;
    const image = this.begin(RASTER_FRAMES * (steps + 1) - 1, channels, colors.line);
    arrays.forEach((bytes, j) => {
      if (!bytes) return;
      for (let s = 0; s < steps; s++) {
        for (let c = 0; c < channels; c++) {
          const share = bytes[s * all + before + c] / 255;
          this.set(image, j * (steps + 1) + s, c, colors.ground, colors.ink, share ? 0.25 + 0.75 * Math.sqrt(share) : 0);
        }
      }
    });
    this.end(image);
    delete this.canvas.dataset.spikes;
    this.note.textContent = `${layer.name}: ${channels} channels over the steps of the last ${arrays.length} frames; `
      + "the stronger the color, the larger the share of a channel's neurons that spike";
  }

  begin(width, height, color) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.canvas.style.aspectRatio = "";
    this.canvas.style.height = width > 2.6 * height || height > 90 ? "auto" : `${Math.min(420, 4 * height)}px`;
    const image = this.canvas.getContext("2d").createImageData(width, height);
    for (let i = 0; i < width * height; i++) image.data.set([...color, 255], 4 * i);
    return image;
  }

  set(image, x, y, from, to, share) {
    const at = 4 * (y * image.width + x);
    for (let k = 0; k < 3; k++) image.data[at + k] = Math.round(from[k] + (to[k] - from[k]) * share);
  }

  end(image) { this.canvas.getContext("2d").putImageData(image, 0, 0); }

  empty(why) {
    this.canvas.width = this.canvas.height = 1;
    this.canvas.style.height = "1px";
    delete this.canvas.dataset.spikes;
    this.note.textContent = why;
  }
}
