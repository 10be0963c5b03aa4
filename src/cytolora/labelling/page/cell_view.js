// One large cell: the trail of cells that were looked at, and those that come next.
const LARGE = 512, SMALL = 96, QUEUE = 24, FEW_LEFT = 8, NUM_RECENT = 12;
const NOT_A_CELL = "not a cell", UNSURE = "unsure";
let trail = [], at = 0, refilling = null;
const labels = new Map();  // cell -> what this reader said, as far as the page knows
const storedCells = [];  // in the order of the answers: a queue that was asked for before may still hold them
const recent = [];  // { id, cells, value, state: "sent" | "stored" | "failed" }, the last one first

const current = () => trail[at] ?? null;

async function refill(isForced = false) {
  if (refilling && !isForced) return;
  const mine = (refilling = Symbol("refill")), before = storedCells.length;
  const rows = await ask(asReader("v1/queue", { kind: $("kind").value, n: QUEUE })).catch(sayError);
  if (refilling !== mine) return;  // other cells were asked for meanwhile
  refilling = null;
  if (!rows) return;
  const now = current(), done = trail.slice(0, at), stored = new Set(storedCells.slice(before));
  const open = rows.filter(({ cell }) => cell !== now?.cell && !stored.has(cell) && !isWaiting(cell));
  const skipped = new Set(done.map(({ cell }) => cell).filter((cell) => !labels.has(cell)));
  const next = open.filter(({ cell }) => !skipped.has(cell));
  const fresh = now && { ...now, ...rows.find(({ cell }) => cell === now.cell) };
  trail = [...done, ...(now ? [fresh] : []), ...(next.length ? next : open)];  // at the end, those that were skipped
  if (now) drawLabels();
  else drawCell();
  prefetch();
}

function prefetch() {
  for (const row of trail.slice(at + 1, at + 4)) picture(row.cell, LARGE).catch(() => {});
}

function goTo(place) {
  if (place < 0 || place > trail.length) return;
  begin("place");
  at = place;
  if (trail.length - at < FEW_LEFT) refill();
  drawCell();
  prefetch();
}

async function open(cell) {
  const isLast = begin("opened"), isInView = begin("view"), isInPlace = begin("place");
  const place = () => trail.findIndex((row) => row.cell === cell);
  if (place() < 0) {
    const row = await ask(asReader(`v1/cells/${cell}`)).catch(sayError);
    if (!row || !isLast()) return;
    if (place() < 0) trail.splice(isInPlace() ? at : Math.min(at + 1, trail.length), 0, { ...row, isOpened: true });
    if (!isInPlace()) return;  // the reader went on: it comes next, not under her hands
  }
  goTo(place());
  if (isInView()) show("cell");
}

async function drawDetail(row) {
  const who = reader();
  const found = await ask(asReader(`v1/cells/${row.cell}`)).catch(() => null);
  if (!found || current()?.cell !== row.cell || reader() !== who) return;
  if (found.own && !isWaiting(row.cell)) labels.set(row.cell, found.own);
  const { prediction, probabilities } = found;
  if ($("kind").value !== "second") Object.assign(current(), { prediction, probabilities });  // a second reading is blind
  const before = [...$("similar").children].map((made) => Number(made.dataset.of));
  if (before.join() !== found.similar.join()) $("similar").replaceChildren(...found.similar.map((other) => thumbnail(other)));
  $("cell").querySelector(".now")?.replaceWith(statement(row.cell));
  $("cell").querySelector(".history")?.replaceWith(historyOf(found.history));
  drawLabels();
}

function thumbnail(cell, ...kinds) {
  const made = element("button", "", "thumb", ...kinds);
  made.type = "button";
  made.dataset.of = cell;
  made.setAttribute("aria-label", `open cell ${cell}`);
  made.append(pictureElement(cell, SMALL));
  made.addEventListener("click", () => open(cell));
  return made;
}

function statement(cell) {
  const value = labels.get(cell);
  const text = isWaiting(cell) ? "Not stored yet." : value ? `You said: ${value}.` : "";
  return element("p", text, "now", value && "set");
}

const HOW = { row: "in a row", lasso: "by lasso", import: "imported", adjudication: "decided" };
let isHistoryOpen = false;

function historyOf(entries) {
  const made = element("details", "", "history"), list = document.createElement("ol");
  made.hidden = !entries.length;
  made.open = isHistoryOpen;
  made.addEventListener("toggle", () => { if (made.isConnected) isHistoryOpen = made.open; });
  list.append(...entries.map(({ reader: who, value, how, time, undone }) => {
    const ways = [HOW[how], undone && "taken back"].filter(Boolean).join(", ");
    return element("li", `${who}: ${value}${ways ? ` (${ways})` : ""}, ${new Date(time).toLocaleString()}`, undone && "undone");
  }));
  made.append(element("summary", `History: ${entries.length === 1 ? "one entry" : `${entries.length} entries`}`), list);
  return made;
}

function drawCell() {
  const row = current();
  $("back").disabled = at === 0;
  $("forth").disabled = at >= trail.length;
  $("cell").className = row ? "" : "empty";
  if (!row) {
    const text = refilling ? "…" : "No cell is left here. Choose other cells above, or look at the map.";
    $("cell").replaceChildren(element("p", text, "soft"));
    $("similar").replaceChildren();
    drawLabels();
    return;
  }
  const frame = element("button", "", "large");
  frame.type = "button";
  frame.title = "zoom (z)";
  frame.setAttribute("aria-label", "enlarge the picture");
  frame.append(pictureElement(row.cell, LARGE));
  frame.addEventListener("click", openZoom);
  const texts = element("div", "", "texts");
  const share = row.share === "test" ? "Test share: read without a prediction, never trained on." : "";
  texts.append(element("p", row.why, "why"), element("p", share, "share-note"), element("p", row.name, "path"),
    element("p", row.group ? `Group: ${row.group}` : "", "soft"), statement(row.cell), historyOf([]));
  $("cell").replaceChildren(frame, texts);
  $("similar").replaceChildren();
  drawDetail(row);
  drawLabels();
}

// the buttons of the labels, in every view

const values = () => [
  ...(overview?.classes ?? []).map((one, index) => ({ value: one.name, key: one.key, index })),
  { value: NOT_A_CELL, key: "x", index: -1 }, { value: UNSURE, key: "?", index: -1 },
];

function drawLabels() {
  const row = view === "cell" ? current() : null;
  const shares = row?.probabilities ?? null;
  $("labels").replaceChildren(...values().map(({ value, key, index }) => {
    const share = shares && index >= 0 ? shares[index] : 0;
    const made = element("button", "", "class", row && labels.get(row.cell) === value && "now");
    made.type = "button";
    made.setAttribute("aria-pressed", Boolean(row && labels.get(row.cell) === value));
    made.style.setProperty("--share", `${100 * share}%`);
    made.append(element("kbd", key ?? ""), element("span", value),
      element("span", shares && index >= 0 ? `${(100 * share).toFixed(0)} %` : "", "share"));
    made.addEventListener("click", () => choose(value));
    return made;
  }));
  const isAble = { cell: row, grid: true, map: selection.length }[view];
  for (const made of $("labels").children) made.disabled = !isAble;
}

function choose(value) {
  if (view === "cell" && current()) {
    label([current().cell], value, "key");
    goTo(at + 1);
  } else if (view === "grid") chooseInGrid(value);
  else if (view === "map" && selection.length) chooseOnMap(value);
}

function label(cells, value, how) {
  const id = send("v1/labels", { cells, value, how }, cells.length === 1 ? `“${value}” of one cell` : `“${value}” of ${cells.length} cells`);
  recent.unshift({ id, cells, value, state: "sent" });
  drawRecent();
}

function drawRecent() {
  recent.length = Math.min(recent.length, NUM_RECENT);
  const texts = { sent: "…", stored: "✓ stored", failed: "NOT stored" };
  $("recent").replaceChildren(...recent.map(({ cells, value, state }) => {
    const made = element("li", "", state);
    const more = cells.length > 1 ? `${value}, ${cells.length} cells` : value;
    made.append(thumbnail(cells[0]), element("span", more), element("span", texts[state], "state-of"));
    return made;
  }));
}

function onStored(item, answer) {
  const { value, cells } = item.body;
  if (item.body.reader !== reader()) return say(`Stored, as ${item.body.reader}: ${item.text}.`);  // another reads now
  overview = { ...overview, ...answer.overview };
  if (value && cells) {
    const left = new Set(answer.left_out ?? []);
    for (const cell of cells) if (!left.has(cell)) labels.set(cell, value);
    storedCells.push(...cells);
    setOnMap(cells.filter((cell) => !left.has(cell)), value);
    mark(item, "stored");
    const out = left.size ? ` ${left.size} of the test share are left out: they are read one at a time.` : "";
    say(`Stored: ${item.text}.${out}`);
  } else if (item.path === "v1/adjudications") {
    say(`Stored: ${item.text}.`);
    loadReaders();
  } else {
    say(`${item.text}: ${answer.cells.length === 1 ? "one cell" : `${answer.cells.length} cells`}.`);
    for (const cell of answer.cells) labels.delete(cell);
    loadPoints();
    if (view === "cell") open(answer.cells[0]);
    if (view === "grid") loadGrid();
  }
  drawOverview();
  if (item.body.cells?.includes(current()?.cell)) drawCell();
}

function mark(item, state) {
  const found = recent.find(({ id }) => id === item.body.client_id);
  if (found) found.state = state;
  drawRecent();
}

function onNotStored(item) {
  if (item.body.cells) mark(item, "failed");
  if (item.body.cells?.includes(current()?.cell)) drawCell();
}

function onDiscarded(item) {
  if (!item.body.cells) return;
  const place = recent.findIndex(({ id }) => id === item.body.client_id);
  if (place >= 0) recent.splice(place, 1);
  drawRecent();
  if (item.body.cells.length === 1) open(item.body.cells[0]);
}

// what the enlarged picture of cells.js asks

function enlarged() {
  const row = current(), image = $("cell").querySelector(".large img");
  return view === "cell" && row && image?.src ? { source: image.src, name: row.name, isOwn: true } : null;
}

function goByKey(key) {
  if (view !== "cell" || !["ArrowLeft", "ArrowRight"].includes(key)) return false;
  goTo(at + (key === "ArrowRight" ? 1 : -1));
  return true;
}
