// `FewStepSampler` for a page: the same noise, the same steps, the network on worker threads.

import { mersenneTwister, randn } from "./noise.js";

// a worker that has loaded the network, as a function from what it is sent to a promise of the velocity
async function startWorker() {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" }), waiting = [];
  worker.onmessage = ({ data: { velocity, error } }) => {
    const { resolve, reject } = waiting.shift();
    if (error) reject(new Error(error));
    else resolve(velocity);
  };
  worker.onerror = () => waiting.splice(0).forEach(({ reject }) => reject(new Error("its worker does not load")));
  const ask = (message) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      worker.postMessage(message);
    });
  await ask("start");
  return ask;
}

export class Sampler {
  // shape: [channels, height, width] of an image. threads: how many workers share the images of an evaluation
  constructor(shape, threads) {
    this.shape = shape;
    this.size = shape.reduce((a, b) => a * b);
    this.first = startWorker();
    this.workers = [];
    this.threads = threads;
  }

  // images in [0, 1], (labels.length, ...shape) in one array; null once `outdated()` says that nobody waits for them
  async sample({ labels, seed, cfg, steps }, outdated = () => false) {
    const x = this.noise(seed, labels.length).slice();
    for (let i = steps; i > 0; i--) {
      if (i < steps && outdated()) return null;
      const t = i / steps, tNext = (i - 1) / steps, velocity = await this.evaluate(x, labels, t, tNext, cfg);
      for (let j = 0; j < x.length; j++) x[j] += (tNext - t) * velocity[j];
    }
    return x.map((value) => Math.min(Math.max((value + 1) / 2, 0), 1)); // [-1, 1] -> [0, 1]
  }

  // the noise of the first n images of a seed, one after the other; that of the last call is kept
  noise(seed, n) {
    if (this.kept?.seed !== seed || this.kept.noise.length !== n * this.size) {
      const random = mersenneTwister(seed), noise = new Float32Array(n * this.size);
      for (let i = 0; i < n; i++) noise.set(randn(random, this.size), i * this.size);
      this.kept = { seed, noise };
    }
    return this.kept.noise;
  }

  // the average velocity from t to tNext of all images: each worker takes a share of them
  async evaluate(x, labels, t, tNext, cfg) {
    if (!this.workers.length) this.workers.push(await this.first);
    const velocity = new Float32Array(x.length), share = Math.ceil(labels.length / this.workers.length);
    const parts = this.workers.map(async (ask, i) => {
      const y = labels.slice(i * share, (i + 1) * share), start = i * share * this.size;
      const shape = [y.length, ...this.shape], part = x.slice(start, start + y.length * this.size);
      if (y.length) velocity.set(await ask({ shape, x: part, y, t, tNext, cfg }), start);
    });
    await Promise.all(parts);
    this.startMore();
    return velocity;
  }

  // further workers, behind the first picture, which should not wait for them; without them it is only slower
  startMore() {
    for (; this.threads > 1; this.threads--) startWorker().then((ask) => this.workers.push(ask), () => {});
  }
}
