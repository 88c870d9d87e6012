// Paints what canvas.py sends: a paper with all that stays, and on it raw pixels, or a patch of another drawing.

const decode = (bytes) => createImageBitmap(new Blob([bytes], { type: "image/png" }));

// one picture of a stack of raw bytes, as pixels of the browser: gray or colour -> RGBA
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
  status.className = "dit-said";
  el.append(canvas, status);
  const screen = canvas.getContext("2d", { alpha: false });
  const small = document.createElement("canvas"), ink = small.getContext("2d");
  let paper = null, paperBytes = null, patch = null, patchBytes = null; // decoded, and from what
  const sheet = document.createElement("canvas"); // the paper in the size of the screen: scaled once, not every time
  let fitted = false, stain = null; // whether the sheet is right; [x, y, width, height] that lies on it
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

  // the paper again where something lies on it, or everywhere
  function wipe(wide, tall) {
    if (!paper) return;
    if (!fitted) {
      sheet.width = wide;
      sheet.height = tall;
      draw2d(sheet.getContext("2d", { alpha: false }), paper, [0, 0, wide, tall], true);
      stain = [0, 0, wide, tall];
      fitted = true;
    }
    if (stain) screen.drawImage(sheet, ...stain, ...stain);
    stain = null;
  }

  function paint(s) {
    canvas.style.width = `${s.width}px`;
    canvas.style.aspectRatio = `${s.width} / ${s.height}`;
    const wide = Math.round((canvas.clientWidth || s.width) * (window.devicePixelRatio || 1));
    const tall = Math.round((wide * s.height) / s.width);
    if (canvas.width !== wide || canvas.height !== tall) {
      canvas.width = wide;
      canvas.height = tall;
      fitted = false;
    }
    const scale = wide / s.width;
    wipe(wide, tall);
    const [moments, n, channels, height, width] = s.size;
    if (n) {
      const bytes = new Uint8Array(s.tiles.buffer, s.tiles.byteOffset, s.tiles.byteLength);
      const moment = Math.min(Math.max(s.moment, 0), moments - 1);
      small.width = width;
      small.height = height;
      for (let i = 0; i < n; i++) {
        ink.putImageData(unpack(bytes, (moment * n + i) * channels * height * width, channels, height, width), 0, 0);
        place(small, ...s.corners[i], ...s.tile, scale, false);
      }
    }
    if (patch) stain = place(patch, ...s.spot, scale, true);
    const pick = (texts) => texts[Math.min(s.moment, texts.length - 1)] ?? "";
    canvas.setAttribute("aria-label", pick(s.alt));
    canvas.title = pick(s.alt);
    if (status.textContent !== pick(s.said)) status.textContent = pick(s.said);
    status.setAttribute("role", s.wrong ? "alert" : "status");
    canvas.dataset.frame = s.frame;
    canvas.dataset.moment = s.moment;
    canvas.dataset.rough = s.rough;
    canvas.dispatchEvent(new CustomEvent("painted", { bubbles: true, detail: { frame: s.frame, rough: s.rough } }));
  }

  const NAMES = "width height background tiles size corners tile moment patch spot alt said wrong rough frame".split(" ");

  async function draw() {
    again = busy;
    if (busy) return; // what is newest then is painted next
    busy = true;
    try {
      do {
        again = false;
        const s = Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));
        if (s.background !== paperBytes && s.background.byteLength) {
          paper = await decode(s.background);
          paperBytes = s.background;
          fitted = false;
        }
        if (s.patch !== patchBytes) {
          patch = s.patch.byteLength ? await decode(s.patch) : null;
          patchBytes = s.patch;
        }
        if (gone) return;
        paint(s);
        if (s.frame > told) model.send({ painted: (told = s.frame), pixels: canvas.width / s.width });
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

  let told = -1;
  const resized = () => {
    const wanted = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
    if (wanted && wanted !== canvas.width) draw();
  };
  const watcher = new ResizeObserver(resized);
  watcher.observe(canvas);
  window.addEventListener("resize", resized); // the browser's zoom
  model.on("change:frame change:moment", draw);
  draw();
  return () => {
    gone = true;
    watcher.disconnect();
    window.removeEventListener("resize", resized);
    model.off("change:frame change:moment", draw);
  };
}

export default { render };
