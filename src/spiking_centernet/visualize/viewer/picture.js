// Events, boxes, tracks and heatmap of one detector on one canvas.

const rgb = (c) => `rgb(${c[0]} ${c[1]} ${c[2]})`;

class Picture {
  constructor(canvas, sizeHw, look) {
    this.canvas = canvas;
    [this.height, this.width] = sizeHw;
    this.look = look;
    this.small = document.createElement("canvas");
    this.small.width = this.width;
    this.small.height = this.height;
    this.image = this.small.getContext("2d").createImageData(this.width, this.height);
    canvas.style.aspectRatio = `${this.width} / ${this.height}`;
  }

  /** Draw; boxes are rows of left, top, right, bottom, score, label, track, and lines u, v, u, v, ... where there are any. */
  draw({ frames, us, shownUs, mode, theme, boxes, truth, trails, heatmap, classes }) {
    const shown = Math.max(1, this.canvas.clientWidth || this.width);
    this.scale = Math.min(2000, Math.max(this.width, shown * Math.min(2, devicePixelRatio || 1))) / this.width;
    const [w, h] = [Math.round(this.width * this.scale), Math.round(this.height * this.scale)];
    if (this.canvas.width !== w || this.canvas.height !== h) { this.canvas.width = w; this.canvas.height = h; }
    const pen = this.canvas.getContext("2d");
    this.events(frames, us, shownUs, mode, this.look.themes[theme]);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.small, 0, 0, w, h);
    if (heatmap) this.heat(pen, heatmap, theme);
    for (const box of truth) this.frame(pen, box, "#fff", "#000", true);
    for (const trail of trails) this.trail(pen, trail);
    // The best lies on top.
    const unit = Math.max(1, this.scale * this.width / shown);
    for (const box of [...boxes].sort((a, b) => a[4] - b[4])) {
      const color = this.look.classes[box[5] % this.look.classes.length];
      this.frame(pen, box, rgb(color), "#000", false, unit);
      if (box[7]) this.lines(pen, box[7], rgb(color), unit);
      const track = box[6] >= 0 ? ` #${box[6]}` : "";
      this.tag(pen, box, `${classes[box[5]] ?? `class ${box[5]}`} ${box[4].toFixed(2)}${track}`, rgb(color), unit);
    }
  }

  events(frames, us, shownUs, mode, theme) {
    const size = this.width * this.height;
    const pixels = new Uint32Array(this.image.data.buffer);
    const pack = (c) => (255 << 24 | c[2] << 16 | c[1] << 8 | c[0]) >>> 0;
    pixels.fill(pack(theme.background));
    if (mode !== "none") {
      const from = us - shownUs;
      const count = (this.count ??= new Uint8Array(size)).fill(0);
      const last = (this.last ??= new Uint8Array(size));
      const age = (this.age ??= new Float32Array(size));
      for (const frame of frames) {
        const { t, x, y, p } = frame.decoded;
        for (let i = 0; i < t.length; i++) {
          if (t[i] < from || t[i] >= us) continue;
          const at = y[i] * this.width + x[i];
          if (count[at] < 255) count[at]++;
          last[at] = p[i];
          age[at] = us - t[i];
        }
      }
      const mix = (end, s) => pack(theme.background.map((c, k) => Math.round(c + (end[k] - c) * s)));
      const ends = [theme.off, theme.on];
      if (mode === "polarity") {
        const strength = this.look.strength;
        const table = ends.map((end) => strength.map((s) => mix(end, s)));
        for (let i = 0; i < size; i++) if (count[i]) pixels[i] = table[last[i]][Math.min(count[i], strength.length - 1)];
      } else {
        // exp(-age / tau) with tau a third of what is shown: 5 % at its edge.
        const table = ends.map((end) => Array.from({ length: 64 }, (_, k) => mix(end, Math.exp((-3 * k) / 63))));
        for (let i = 0; i < size; i++) if (count[i]) pixels[i] = table[last[i]][Math.min(63, Math.round((age[i] / shownUs) * 63))];
      }
    }
    this.small.getContext("2d").putImageData(this.image, 0, 0);
  }

  heat(pen, { bytes, hw, stride }, theme) {
    const map = document.createElement("canvas");
    [map.height, map.width] = hw;
    const image = map.getContext("2d").createImageData(hw[1], hw[0]);
    const color = theme === "dark" ? [255, 240, 110] : [130, 0, 120];
    for (let i = 0; i < bytes.length; i++) image.data.set([...color, Math.round(bytes[i] * 0.85)], 4 * i);
    map.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = true;
    pen.drawImage(map, 0, 0, hw[1] * stride * this.scale, hw[0] * stride * this.scale);
  }

  frame(pen, box, color, casing, dashed, unit = 1) {
    const [l, t, r, b] = box.slice(0, 4).map((v) => v * this.scale);
    const inside = [Math.max(l, unit), Math.max(t, unit), Math.min(r, this.canvas.width - unit), Math.min(b, this.canvas.height - unit)];
    for (const [style, width] of [[casing, 4], [color, 2]]) {
      pen.strokeStyle = style;
      pen.lineWidth = width * unit;
      pen.setLineDash(dashed && style === color ? [6 * unit, 6 * unit] : []);
      pen.strokeRect(inside[0], inside[1], inside[2] - inside[0], inside[3] - inside[1]);
    }
    pen.setLineDash([]);
  }

  lines(pen, ends, color, unit) {
    pen.strokeStyle = color;
    pen.lineWidth = 1.5 * unit;
    pen.beginPath();
    for (let i = 0; i < ends.length; i += 4) {
      pen.moveTo(ends[i] * this.scale, ends[i + 1] * this.scale);
      pen.lineTo(ends[i + 2] * this.scale, ends[i + 3] * this.scale);
    }
    pen.stroke();
  }

  trail(pen, { points, label }) {
    for (const [style, width] of [["#000", 4], [rgb(this.look.classes[label % this.look.classes.length]), 2]]) {
      pen.strokeStyle = style;
      pen.lineWidth = width;
      pen.beginPath();
      points.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](x * this.scale, y * this.scale));
      pen.stroke();
    }
  }

  tag(pen, box, text, color, unit) {
    const size = (this.canvas.clientWidth < 480 ? 10 : 13) * unit;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const width = pen.measureText(text).width + 8 * unit, height = size * 1.4;
    // Above the box where there is room, else below it: inside it would hide what is shown.
    const top = box[1] * this.scale - height >= 0 ? box[1] * this.scale - height : box[3] * this.scale;
    const x = Math.max(0, Math.min(box[0] * this.scale, this.canvas.width - width));
    const y = Math.max(0, Math.min(top, this.canvas.height - height));
    pen.fillStyle = color;
    pen.fillRect(x, y, width, height);
    pen.fillStyle = "#000";
    pen.textBaseline = "middle";
    pen.fillText(text, x + 4 * unit, y + height / 2);
  }
}
