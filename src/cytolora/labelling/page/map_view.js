// The map of all cells: points are written into the pixels of a canvas from typed arrays, 100,000 of them in a frame.
const PALETTE = [  // Okabe and Ito's colours, then darker ones of the same hues; rgb
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [213, 94, 0], [0, 114, 178], [204, 121, 167], [190, 178, 20],
  [140, 90, 0], [40, 110, 160], [0, 100, 70], [140, 50, 0], [120, 60, 95],
];
const NOTHING = [150, 156, 166], NO_CELL = [95, 60, 60], UNSURE_COLOUR = [165, 130, 210], OTHERS = [110, 125, 150];
const CLICK_PX = 4, PICK_PX = 12, ZOOM_STEP = 1.3, PAN_PX = 60, MAX_SHOWN = 12, SPECIAL = { [NOT_A_CELL]: -2, [UNSURE]: -3 };
let points = null, colours = null, isFront = null, selection = [], lassoPath = null, isLassoing = false, isMapAsked = false;
let scale = 1, shiftX = 0, shiftY = 0, frame = 0, pixels = null, pixelWords = null, mapNumber = -1, numFrames = 0;

async function loadPoints() {
  if (isMapAsked) return;
  isMapAsked = true;
  const number = overview?.classifier?.number ?? 0, who = reader();
  const buffer = await ask(asReader("v1/points"), { as: "arrayBuffer" }).catch(sayError);
  isMapAsked = false;
  if (!buffer) return;
  if (reader() !== who) return loadPoints();
  mapNumber = number;
  const [n, hasPlaces] = new Int32Array(buffer, 0, 2), wide = 4 * n;
  const isFirst = !points?.hasPlaces;
  points = {
    n, hasPlaces: hasPlaces === 1, x: new Float32Array(buffer, 8, n), y: new Float32Array(buffer, 8 + wide, n),
    doubt: new Float32Array(buffer, 8 + 2 * wide, n), group: new Int32Array(buffer, 8 + 3 * wide, n),
    label: new Int16Array(buffer, 8 + 4 * wide, n), prediction: new Int16Array(buffer, 8 + 4.5 * wide, n),
    test: new Uint8Array(buffer, 8 + 5 * wide, n),
  };
  $("map-none").hidden = points.hasPlaces;
  if (isFirst) showAll();
  paint();
}

// colours

const word = ([red, green, blue]) => (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
const ofClass = (index) => PALETTE[index % PALETTE.length];
const ofLabel = (value) => (value >= 0 ? ofClass(value) : { "-2": NO_CELL, "-3": UNSURE_COLOUR, "-4": OTHERS }[value] ?? NOTHING);
const ofDoubt = (value) => (Number.isNaN(value) ? NOTHING : [40 + 190 * value, 90 + 60 * value, 200 - 170 * value].map(Math.round));
const ofGroup = (group) => ofClass(((group % 97) * 31) % 89);

function paint() {
  if (!points) return;
  const by = $("colour").value, n = points.n;
  colours = new Uint32Array(n);
  isFront = new Uint8Array(n);
  const paintOne = {
    label: (index) => ofLabel(points.label[index]), prediction: (index) => ofLabel(points.prediction[index]),
    doubt: (index) => ofDoubt(points.doubt[index]), group: (index) => ofGroup(points.group[index]),
  }[by];
  for (let index = 0; index < n; index += 1) {
    const colour = paintOne(index);
    colours[index] = word(colour);
    isFront[index] = colour === NOTHING ? 0 : 1;
  }
  drawLegend(by);
  drawMap();
}

function drawLegend(by) {
  const classes = (overview?.classes ?? []).map((one, index) => [one.name, ofClass(index)]);
  const rows = {
    label: [...classes, [NOT_A_CELL, NO_CELL], [UNSURE, UNSURE_COLOUR], ["labelled by others", OTHERS],
      ["no label", NOTHING]],
    prediction: [...classes, ["not shown: test share, or none yet", NOTHING]],
    doubt: [["sure", ofDoubt(0)], ["in doubt", ofDoubt(1)], ["not shown: test share, or none yet", NOTHING]],
    group: [["a colour for each group; colours repeat", NOTHING]],
  }[by];
  $("legend").replaceChildren(...rows.map(([name, colour]) => {
    const made = element("span", "", "key"), mark = element("i", "");
    mark.style.background = `rgb(${colour.join()})`;
    made.append(mark, name);
    return made;
  }));
}

// drawing

function fitCanvas() {
  const { clientWidth: width, clientHeight: height } = $("map-frame"), canvas = $("map");
  if (!width || (canvas.width === width && canvas.height === height && pixels)) return;
  for (const one of [canvas, $("map-over")]) [one.width, one.height] = [width, height];
  pixels = new ImageData(width, height);
  pixelWords = new Uint32Array(pixels.data.buffer);
}

function drawMap() {
  if (!frame) frame = requestAnimationFrame(drawNow);
}

function drawNow() {
  frame = 0;
  if (view !== "map") return;
  fitCanvas();
  if (!pixels) return;
  pixelWords.fill(0);
  if (points?.hasPlaces) {
    drawPoints(0);
    drawPoints(1);
  }
  $("map").getContext("2d").putImageData(pixels, 0, 0);
  drawOver();
  numFrames += 1;
}

function drawPoints(front) {
  const { x, y, n } = points, { width, height } = pixels;
  const size = n > 20000 && scale < 4 * baseScale() ? 2 : n > 2000 ? 3 : 5, half = size >> 1;
  for (let index = 0; index < n; index += 1) {
    if (isFront[index] !== front) continue;
    const left = Math.round(x[index] * scale + shiftX) - half, top = Math.round(shiftY - y[index] * scale) - half;
    if (left < 0 || top < 0 || left + size > width || top + size > height) continue;
    const colour = colours[index];
    for (let row = top * width + left, end = row + size * width; row < end; row += width) {
      for (let at = row; at < row + size; at += 1) pixelWords[at] = colour;
    }
  }
}

function drawOver() {
  const context = $("map-over").getContext("2d"), ink = getComputedStyle(document.body).color;
  context.clearRect(0, 0, pixels.width, pixels.height);
  context.strokeStyle = ink;
  if (lassoPath?.length > 1) {
    context.beginPath();
    for (const [x, y] of lassoPath) context.lineTo(x, y);
    context.closePath();
    context.setLineDash([4, 3]);
    context.stroke();
    context.setLineDash([]);
  }
  if (!points?.hasPlaces) return;
  for (const cell of selection.length > 2000 ? [] : selection) {
    context.strokeRect(points.x[cell] * scale + shiftX - 4, shiftY - points.y[cell] * scale - 4, 8, 8);
  }
}

// moving

function bounds() {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let index = 0; index < points.n; index += 1) {
    left = Math.min(left, points.x[index]);
    right = Math.max(right, points.x[index]);
    low = Math.min(low, points.y[index]);
    high = Math.max(high, points.y[index]);
  }
  return { left, right, low, high, width: right - left || 1, height: high - low || 1 };
}

function baseScale() {
  points.bounds ??= bounds();
  return 0.94 * Math.min($("map-frame").clientWidth / points.bounds.width, $("map-frame").clientHeight / points.bounds.height);
}

function showAll() {
  if (!points?.hasPlaces || !$("map-frame").clientWidth) return;
  scale = baseScale();
  const { left, right, low, high } = points.bounds;
  shiftX = $("map-frame").clientWidth / 2 - (scale * (left + right)) / 2;
  shiftY = $("map-frame").clientHeight / 2 + (scale * (low + high)) / 2;
  drawMap();
}

function zoomMap(factor, x = $("map-frame").clientWidth / 2, y = $("map-frame").clientHeight / 2) {
  if (!points?.hasPlaces) return;
  const bounded = Math.min(Math.max(scale * factor, baseScale() / 4), baseScale() * 400) / scale;
  scale *= bounded;
  shiftX = x - (x - shiftX) * bounded;
  shiftY = y - (y - shiftY) * bounded;
  drawMap();
}

function panMap(x, y) {
  shiftX += x;
  shiftY += y;
  drawMap();
}

// choosing cells

function nearest(x, y) {
  let best = -1, least = PICK_PX ** 2;
  for (let index = 0; index < points.n; index += 1) {
    const away = (points.x[index] * scale + shiftX - x) ** 2 + (shiftY - points.y[index] * scale - y) ** 2;
    if (away < least) [best, least] = [index, away];
  }
  return best;
}

function inside(path) {
  const found = [], xs = path.map(([x]) => x), ys = path.map(([, y]) => y);
  const [left, right, top, low] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  for (let index = 0; index < points.n; index += 1) {
    const x = points.x[index] * scale + shiftX, y = shiftY - points.y[index] * scale;
    if (points.test[index] || x < left || x > right || y < top || y > low) continue;
    let isIn = false;
    for (let at = 0, last = path.length - 1; at < path.length; last = at, at += 1) {
      const isAcross = ys[at] > y !== ys[last] > y;
      if (isAcross && x < ((xs[last] - xs[at]) * (y - ys[at])) / (ys[last] - ys[at]) + xs[at]) isIn = !isIn;
    }
    if (isIn) found.push(index);
  }
  return found;
}

function select(cells) {
  begin("picked");
  selection = cells;
  drawMap();
  drawLabels();
  const shown = cells.filter((cell, index) => index % Math.ceil(cells.length / MAX_SHOWN) === 0);
  const text = cells.length ? `${cells.length} cells of the training share chosen. A label goes to all of them; Escape lets them go.` : "";
  const strip = element("div", "", "strip");
  strip.append(...shown.map((cell) => thumbnail(cell)));
  $("picked").replaceChildren(element("p", text, "soft"), strip);
}

async function pick(cell) {
  const isAwaited = begin("picked"), found = await ask(asReader(`v1/cells/${cell}`)).catch(sayError);
  if (!found || !isAwaited()) return;
  selection = [];
  drawMap();
  drawLabels();
  const strip = element("div", "", "strip");
  strip.append(thumbnail(cell, "chosen"), ...found.similar.map((other) => thumbnail(other)));
  $("picked").replaceChildren(element("p", `${found.name} and the cells most similar to it; click one to label it.`, "soft"), strip);
}

function chooseOnMap(value) {
  label(selection, value, "lasso");
  select([]);
}

function setOnMap(cells, value) {
  if (!points) return;
  const index = (overview?.classes ?? []).findIndex((one) => one.name === value);
  for (const cell of cells) points.label[cell] = index >= 0 ? index : SPECIAL[value] ?? -1;
  paint();
}

function setLasso(isOn) {
  isLassoing = isOn;
  $("lasso").setAttribute("aria-pressed", isOn);
}

function onMapKey(event) {
  const pans = { ArrowLeft: [PAN_PX, 0], ArrowRight: [-PAN_PX, 0], ArrowUp: [0, PAN_PX], ArrowDown: [0, -PAN_PX] };
  if (event.key in pans) panMap(...pans[event.key]);
  else if (event.key === "+" || event.key === "=") zoomMap(ZOOM_STEP);
  else if (event.key === "-") zoomMap(1 / ZOOM_STEP);
  else if (event.key === "0") showAll();
  else if (event.key === "l") setLasso(!isLassoing);
  else if (event.key === "Escape") select([]);
  else return false;
  return true;
}

function startMap() {
  const canvas = $("map"), place = (event) => [event.offsetX, event.offsetY];
  let from = null, last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    from = last = place(event);
    lassoPath = isLassoing || event.shiftKey ? [from] : null;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = place(event);
    if (lassoPath) {
      lassoPath.push(to);
      drawMap();
    } else panMap(to[0] - last[0], to[1] - last[1]);
    last = to;
  });
  canvas.addEventListener("pointerup", (event) => {
    const [x, y] = place(event), isClick = from && Math.hypot(x - from[0], y - from[1]) < CLICK_PX && !(lassoPath?.length > 3);
    const path = lassoPath;
    from = lassoPath = null;
    if (!points?.hasPlaces) return;
    if (isClick && nearest(x, y) >= 0) pick(nearest(x, y));
    else if (path && !isClick) select(inside(path));
    drawMap();
  });
  canvas.addEventListener("pointercancel", () => { from = lassoPath = null; drawMap(); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomMap(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP, ...place(event));
  }, { passive: false });
  $("colour").addEventListener("change", paint);
  $("lasso").addEventListener("click", () => setLasso(!isLassoing));
  $("map-in").addEventListener("click", () => zoomMap(ZOOM_STEP));
  $("map-out").addEventListener("click", () => zoomMap(1 / ZOOM_STEP));
  $("map-all").addEventListener("click", showAll);
}
