// Paints what canvas.py sends: a background with all that stays, and on it raw pixels, or a patch of another picture.

const decode = (bytes) => createImageBitmap(new Blob([bytes], { type: "image/png" }));

// one picture of a stack of raw bytes, as pixels of the browser: gray or color -> RGBA
function unpack(bytes, start, channels, height, width) {
  const image = new ImageData(width, height), out = image.data, plane = height * width;
  for (let i = 0, j = start; i < plane; i++, j++) {
    out[4 * i] = bytes[j];
    out[4 * i + 1] = bytes[channels === 3 ? j + plane : j];
    out[4 * i + 2] = bytes[channels === 3 ? j + 2 * plane : j];
    out[4 * i + 3] = 255;
  }
  return image;
}

function render({ model, el }) {
  const canvas = document.createElement("canvas"), status = document.createElement("div");
  canvas.className = "dit-canvas";
  canvas.setAttribute("role", "img");
  status.className = "dit-status";
  el.append(canvas, status);
  const screen = canvas.getContext("2d", { alpha: false });
  const small = document.createElement("canvas"), ink = small.getContext("2d");
  let background = null, backgroundBytes = null, patch = null, patchBytes = null; // decoded, and from what
  const scaled = document.createElement("canvas"); // the background in the size of the screen: scaled once, not every time
  let fits = false, dirty = null; // whether `scaled` is up to date; the box [x, y, width, height] painted over it
  let busy = false, again = false, gone = false;

  function place(bitmap, top, left, height, width, scale, smooth) {
    const x = Math.round(left * scale), y = Math.round(top * scale); // whole pixels of the screen: no seams
    const box = [x, y, Math.round((left + width) * scale) - x, Math.round((top + height) * scale) - y];
    draw2d(screen, bitmap, box, smooth);
    return box;
  }

  function draw2d(context, bitmap, box, smooth) {
    context.imageSmoothingEnabled = smooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, ...box);
  }

  // the background again where something was painted over it, or everywhere
  function restore(wide, tall) {
    if (!background) return;
    if (!fits) {
      scaled.width = wide;
      scaled.height = tall;
      draw2d(scaled.getContext("2d", { alpha: false }), background, [0, 0, wide, tall], true);
      dirty = [0, 0, wide, tall];
      fits = true;
    }
    if (dirty) screen.drawImage(scaled, ...dirty, ...dirty);
    dirty = null;
  }

  function paint(s) {
    canvas.style.width = `${s.width}px`;
    canvas.style.aspectRatio = `${s.width} / ${s.height}`;
    const wide = Math.round((canvas.clientWidth || s.width) * (window.devicePixelRatio || 1));
    const tall = Math.round((wide * s.height) / s.width);
    if (canvas.width !== wide || canvas.height !== tall) {
      canvas.width = wide;
      canvas.height = tall;
      fits = false;
    }
    const scale = wide / s.width;
    restore(wide, tall);
    const [frames, n, channels, height, width] = s.size;
    if (n) {
      const bytes = new Uint8Array(s.tiles.buffer, s.tiles.byteOffset, s.tiles.byteLength);
      const frame = Math.min(Math.max(s.frame_index, 0), frames - 1);
      small.width = width;
      small.height = height;
      for (let i = 0; i < n; i++) {
        ink.putImageData(unpack(bytes, (frame * n + i) * channels * height * width, channels, height, width), 0, 0);
        place(small, ...s.corners[i], ...s.tile, scale, false);
      }
    }
    if (patch) dirty = place(patch, ...s.patch_box, scale, true);
    const pick = (texts) => texts[Math.min(s.frame_index, texts.length - 1)] ?? "";
    canvas.setAttribute("aria-label", pick(s.alt));
    canvas.title = pick(s.alt);
    if (status.textContent !== pick(s.status)) status.textContent = pick(s.status);
    status.setAttribute("role", s.wrong ? "alert" : "status");
    canvas.dataset.sequence = s.sequence;
    canvas.dataset.frameIndex = s.frame_index;
    canvas.dataset.rough = s.rough;
    const detail = { sequence: s.sequence, rough: s.rough };
    canvas.dispatchEvent(new CustomEvent("painted", { bubbles: true, detail }));
  }

  const NAMES = [
    "width", "height", "background", "tiles", "size", "corners", "tile", "frame_index", "patch", "patch_box",
    "alt", "status", "wrong", "rough", "sequence",
  ];

  async function draw() {
    again = busy;
    if (busy) return; // what is newest then is painted next
    busy = true;
    try {
      do {
        again = false;
        const s = Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));
        if (s.background !== backgroundBytes && s.background.byteLength) {
          background = await decode(s.background);
          backgroundBytes = s.background;
          fits = false;
        }
        if (s.patch !== patchBytes) {
          patch = s.patch.byteLength ? await decode(s.patch) : null;
          patchBytes = s.patch;
        }
        if (gone) return;
        paint(s);
        if (s.sequence > acknowledged) {
          model.send({ acknowledged: (acknowledged = s.sequence), pixels: canvas.width / s.width });
        }
      } while (again);
    } finally {
      busy = false;
    }
  }

  // where the mouse has picked something, in pixels of the page; the same can be had by a control above
  function picked(event) {
    if (!model.get("pickable")) return;
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    model.send({ picked: [x * model.get("width"), y * model.get("height")] });
  }
  canvas.addEventListener("click", picked);
  canvas.classList.toggle("dit-pickable", model.get("pickable"));

  let acknowledged = -1;
  const resized = () => {
    const wanted = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
    if (wanted && wanted !== canvas.width) draw();
  };
  const watcher = new ResizeObserver(resized);
  watcher.observe(canvas);
  window.addEventListener("resize", resized); // the browser's zoom
  model.on("change:sequence change:frame_index", draw);
  draw();
  return () => {
    gone = true;
    watcher.disconnect();
    window.removeEventListener("resize", resized);
    model.off("change:sequence change:frame_index", draw);
  };
}

export default { render };
