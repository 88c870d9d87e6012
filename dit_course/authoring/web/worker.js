// The network on a thread of its own, so that the page is free to follow the sliders: one evaluation for each message.

import * as ort from "./ort.wasm.bundle.min.mjs";

const here = (name) => new URL(name, import.meta.url).href;
ort.env.wasm.numThreads = 1; // more would need headers that plain web servers do not send
ort.env.wasm.wasmPaths = { wasm: here("ort-wasm-simd-threaded.wasm") };
let session;

async function evaluate({ shape, x, y, t, tNext, cfg }) {
  const n = shape[0], each = (value) => new ort.Tensor("float32", new Float32Array(n).fill(value), [n]);
  const { velocity } = await session.run({
    x: new ort.Tensor("float32", x, shape),
    y: new ort.Tensor("int64", BigInt64Array.from(y, BigInt), [n]),
    t: each(t),
    t_next: each(tNext),
    cfg: each(cfg),
  });
  return velocity.data;
}

// answers begin with the one to "start", and come in the order of the questions
onmessage = async ({ data }) => {
  try {
    session ??= await ort.InferenceSession.create(here("network.onnx"));
    postMessage({ velocity: data === "start" ? null : await evaluate(data) });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
