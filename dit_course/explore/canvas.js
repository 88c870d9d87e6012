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
  let stained = true; // the paper must be painted anew
  let busy = false, again = false, gone = false;

  function place(bitmap, top, left, height, width, scale, smooth) {
    const x = Math.round(left * scale), y = Math.round(top * scale); // whole pixels of the screen: no seams
    screen.imageSmoothingEnabled = smooth;
    screen.imageSmoothingQuality = "high";
    screen.drawImage(bitmap, x, y, Math.round((left + width) * scale) - x, Math.round((top + height) * scale) - y);
  }

  function paint(s) {
    canvas.style.width = `${s.width}px`;
    canvas.style.aspectRatio = `${s.width} / ${s.height}`;
    const wide = Math.round((canvas.clientWidth || s.width) * (window.devicePixelRatio || 1));
    const tall = Math.round((wide * s.height) / s.width);
    if (canvas.width !== wide || canvas.height !== tall) {
      canvas.width = wide;
      canvas.height = tall;
      stained = true;
    }
    const scale = wide / s.width;
    if (stained && paper) place(paper, 0, 0, s.height, s.width, scale, true);
    stained = false;
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
    if (patch) {
      place(patch, ...s.spot, scale, true);
      stained = true; // the next one may be smaller
    }
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
          stained = true;
        }
        if (s.patch !== patchBytes) {
          patch = s.patch.byteLength ? await decode(s.patch) : null;
          patchBytes = s.patch;
        }
        if (gone) return;
        paint(s);
        if (s.frame > told) model.send({ painted: (told = s.frame) });
      } while (again);
    } finally {
      busy = false;
    }
  }

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
