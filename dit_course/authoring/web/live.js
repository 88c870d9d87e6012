// Sliders for each still picture of the page: what `explore.guidance(student)` is in a notebook, without a kernel.

import canvas from "./canvas.js";
import { Sampler } from "./sampler.js";

const EVALUATIONS = [1, 2, 4, 8], PREVIEW = "first guess";
const here = (name) => new URL(name, import.meta.url);

// what canvas.js expects of the canvas in Python: named values, and a call when they change
class Shown {
  values = { sequence: 0, frame_index: 0, patch: new Uint8Array(), patch_box: [0, 0, 1, 1], wrong: false };
  get = (name) => this.values[name];
  on = (_, listener) => (this.changed = listener);
  off() {}
  send() {}
  set(values) {
    Object.assign(this.values, values, { sequence: this.values.sequence + 1 });
    this.changed?.();
  }
}

function makeControls(settings, { cfg, label, seed, steps }) {
  const form = document.createElement("form"), [least, most] = settings.cfg;
  form.innerHTML = `
    <label>guidance <input name="cfg" type="range" min="${least}" max="${most}" step="0.1" value="${cfg}"><span></span></label>
    <label>class <select name="grid"></select></label>
    <label>seed <input name="seed" type="range" min="0" max="99" value="${seed}"><span></span></label>
    <label>evaluations <input name="steps" type="range" min="0" max="${EVALUATIONS.length - 1}"><span></span></label>`;
  const { cfg: guidance, grid, seed: number, steps: count } = form.elements;
  grid.append(...settings.grids.map(({ name }, i) => new Option(name, i)));
  grid.value = label === "" ? 0 : Number(label) + 1;
  count.value = EVALUATIONS.indexOf(Number(steps));

  // the values of all controls; each slider's readout tells its own, to screen readers too
  form.read = () => {
    const cfg = Number(guidance.value), seed = Number(number.value), steps = EVALUATIONS[count.value];
    for (const [slider, text] of [[guidance, cfg.toFixed(1)], [number, seed], [count, steps]]) {
      slider.nextElementSibling.textContent = text;
      slider.setAttribute("aria-valuetext", text);
    }
    return { cfg, seed, steps, grid: settings.grids[grid.value], labels: settings.grids[grid.value].labels };
  };
  for (const control of form.elements) control.setAttribute("aria-label", control.parentElement.firstChild.data.trim());
  form.onsubmit = () => false;
  return form;
}

async function start(place, settings, sampler) {
  const form = makeControls(settings, place.dataset), box = document.createElement("div"), shown = new Shown();
  const [still, note] = place.children;
  place.prepend(form);
  note.textContent = "The network is loading: this is a still.";
  let busy = false, again = false, last = null;

  async function paint(state, images, remark, rough) {
    last = [state, images, remark, rough];
    const { name, labels, width, height, corners, tile, background } = state.grid;
    const theme = document.documentElement.dataset.theme === "dark" ? "dark" : "light";
    background[theme].bytes ??= new Uint8Array(await (await fetch(here(background[theme].file))).arrayBuffer());
    const evaluations = `${state.steps} evaluation${state.steps > 1 ? "s" : ""} per picture`;
    const caption = `${name}, guidance ${state.cfg.toFixed(1)}, seed ${state.seed}, ${evaluations}`;
    shown.set({
      width, height, corners, tile, rough,
      background: background[theme].bytes,
      tiles: Uint8ClampedArray.from(images, (value) => 255 * value), // rounded
      size: [1, labels.length, ...settings.shape],
      alt: [`${labels.length} pictures: ${caption}`],
      status: [`${caption}: ${remark}`],
    });
    place.images = images; // for whoever wants the numbers
    if (box.isConnected) return;
    box.hidden = true; // until there is something on it
    const reveal = () => {
      still.remove();
      note.remove();
      box.hidden = false;
    };
    box.addEventListener("painted", reveal, { once: true });
    place.append(box);
    canvas.render({ model: shown, el: box });
  }

  async function show(state) {
    if (state.steps > 1) await paint(state, await sampler.sample({ ...state, steps: 1 }), PREVIEW, true);
    const begun = performance.now(), images = await sampler.sample(state, () => again);
    const took = Math.round(performance.now() - begun);
    if (images) await paint(state, images, last ? `${took} ms` : "drawn in your browser", false);
  }

  async function draw() {
    again = busy;
    if (busy) return; // what is newest then is drawn next
    busy = true;
    try {
      do {
        again = false;
        await show(form.read());
      } while (again);
    } catch (error) {
      form.remove();
      note.textContent = `The sliders do not work here (${error.message}): this is a still.`;
      place.replaceChildren(still, note);
    }
    busy = false;
  }

  form.addEventListener("input", draw);
  const theme = new MutationObserver(() => last && paint(...last));
  theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  draw();
}

// what is far below waits until it comes near: the network is large
const settings = fetch(here("live.json")).then((response) => response.json());
let sampler = null;
const watcher = new IntersectionObserver(
  async (entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      watcher.unobserve(target);
      const found = await settings;
      sampler ??= new Sampler(found.shape, Math.min(2, navigator.hardwareConcurrency));
      start(target, found, sampler);
    }
  },
  { rootMargin: "600px" },
);
document.querySelectorAll(".dit-live").forEach((place) => watcher.observe(place));
