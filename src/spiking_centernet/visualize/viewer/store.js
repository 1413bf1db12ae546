// Frames by number, from inside the file, from the server, or as they happen.

const BEHIND = 200;  // frames whose events stay decoded on either side of the one that is shown
const LIVE_FRAMES = 1200;  // a live view remembers so many

class Store {
  constructor(about, look, changed) {
    this.about = about;
    this.look = look;
    this.changed = changed;
    this.frames = new Map();
    this.pending = new Map();
    // A file says at once what the plots show.
    this.series = about.models.map((model) => new Map((model.series ?? []).map((row, k) => [k, row])));
    this.first = 0;
    this.count = about.num_frames;
    this.failure = "";
    if (about.kind === "live") this.listen();
  }

  timeOf(k) {
    if (this.about.kind === "live") {
      const frame = this.frames.get(k);
      return frame ? frame.t_us : this.about.first_us + k * this.about.every_us;
    }
    return this.about.first_us + k * this.about.every_us;
  }

  get firstUs() { return this.timeOf(this.first); }
  get lastUs() { return this.timeOf(this.first + this.count - 1); }

  /** The last frame whose window has ended by this time. */
  indexAt(us) {
    let k = this.first + Math.floor((us - this.firstUs) / this.about.every_us + 1e-6);
    k = Math.min(Math.max(k, this.first), this.first + this.count - 1);
    if (this.about.kind === "live") {
      while (k > this.first && this.timeOf(k) > us + 1) k--;
      while (k < this.first + this.count - 1 && this.timeOf(k + 1) <= us + 1) k++;
    }
    return k;
  }

  get(k) { return this.frames.get(k); }

  /** Ask for a frame; changed() is called when it is there. */
  want(k) {
    if (k < this.first || k >= this.first + this.count || this.frames.has(k) || this.pending.has(k)) return;
    if (this.about.kind === "live" || this.resting) return;
    // One at a time: the server computes them one after the other, and what is shown comes before what is fetched ahead.
    if (this.about.kind === "served" && this.pending.size >= 2) return;
    const load = this.load(k).then((raw) => this.take(k, raw), (error) => this.rest(error));
    this.pending.set(k, load.finally(() => { this.pending.delete(k); this.changed(k); }));
  }

  /** Ask for nothing for a second, so that a server that has ended is not asked without pause. */
  rest(error) {
    this.failure = String(error.message || error);
    this.resting = true;
    setTimeout(() => { this.resting = false; this.changed(-1); }, 1000);
  }

  async load(k) {
    if (this.about.kind === "file") {
      const size = this.look.frames_per_block;
      const block = Math.floor(k / size);
      if (this.block !== block) { this.parsed = readJson(`block-${block}`); this.block = block; }
      return this.parsed[k - block * size];
    }
    const answer = await fetch(`frames/${k}`);
    if (!answer.ok) throw new Error(`frame ${k}: ${answer.status} ${(await answer.text()).slice(0, 200)}`);
    return answer.json();
  }

  async take(k, raw) {
    const frame = { ...raw, number: k };
    frame.decoded = await eventsOf(raw.events, raw.t_us, this.about.every_us);
    this.failure = "";
    this.frames.set(k, frame);
    raw.models.forEach((model, m) => this.series[m].set(k, {
      rate: model.rate, operations: model.operations, latency_ms: model.latency_ms,
    }));
    for (const other of this.frames.keys()) {
      if (this.about.kind === "live" ? other < this.first : Math.abs(other - k) > 2 * BEHIND) this.frames.delete(other);
    }
  }

  listen() {
    const source = new EventSource("live");
    let before = Promise.resolve();
    const inTurn = (act) => { before = before.then(act).catch((error) => { this.failure = String(error); this.changed(-1); }); };
    const add = async (raw) => {
      const k = this.first + this.count;
      await this.take(k, raw);
      this.count++;
      if (this.count > LIVE_FRAMES) { this.count--; this.first++; this.series.forEach((s) => s.delete(this.first - 1)); }
      this.changed(k);
    };
    source.onmessage = (message) => inTurn(() => add(JSON.parse(message.data)));
    // In turn, too: frames that are still being unpacked are no answer to what has ended.
    source.addEventListener("end", (message) => {
      source.close();
      inTurn(() => { this.failure = message.data; this.changed(-1); });
    });
    source.onerror = () => { this.failure = "The stream is interrupted; is scn view still running?"; this.changed(-1); };
    source.onopen = () => { this.failure = ""; };
  }

  /** Packed spikes of a layer as bytes, null where the file does not hold them. */
  async spikes(k, m, layer) {
    const frame = this.frames.get(k);
    if (!frame) return null;
    frame.planes ??= new Map();
    const key = `${m} ${layer}`;
    if (!frame.planes.has(key)) {
      let text = frame.models[m].spikes?.[layer];
      if (!text && this.about.kind === "served") {
        const answer = await fetch(`frames/${k}/spikes/${m}/${layer}`);
        text = answer.ok ? await answer.text() : null;
      }
      frame.planes.set(key, text ? await bytesOf(text) : null);
    }
    return frame.planes.get(key);
  }

  /** Bytes of a frame's packed array of a detector, decoded once. */
  async array(k, m, name) {
    const frame = this.frames.get(k);
    const text = frame?.models[m][name];
    if (!text) return null;
    frame.arrays ??= new Map();
    const key = `${m} ${name}`;
    if (!frame.arrays.has(key)) frame.arrays.set(key, await bytesOf(text));
    return frame.arrays.get(key);
  }
}
