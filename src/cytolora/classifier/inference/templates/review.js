const WIDTH = 130, HEIGHT = 146, AROUND = 2;  // a cell with its gap, pixels; rows drawn beyond the window
const { classes, keys, cells: packed, times_wider: timesWider } = JSON.parse($("data").textContent);
$("data").remove();
const cells = packed.map(([path, label, predicted, shares, suspicion, doubt, flags, note, picture, isOwn, surroundings], place) =>
  ({ place, path, label, predicted, shares, suspicion, doubt, flags, note, picture, isOwn, surroundings, set: null }));
const storage = `cytolora-review-${document.body.dataset.page}`, steps = `${storage}-steps`;
const MAX_STEPS = 1000;  // that can be undone after the window was closed
let shown = [], chosen = 0, undone = [], done = [];

const now = (cell) => (cell.set === null ? cell.label : cell.set);
const name = (index) => (index < 0 ? "none" : classes[index]);
const top1 = (cell) => (cell.predicted < 0 ? -1 : cell.shares[cell.predicted]);

function picture(cell) {
  if (!cell.picture) return element("div", "cannot be read", "lost");
  const image = document.createElement("img");
  image.src = cell.picture;
  image.alt = "";
  return image;
}

// what was set survives closing the window, until it is saved: by path, so that an order may change; so do its steps

function keep() {
  const set = Object.fromEntries(cells.filter((cell) => cell.set !== null).map((cell) => [cell.path, classes[cell.set]]));
  let where = "kept in this browser";
  const plain = (some) => some.slice(-MAX_STEPS).map(({ cell, from, to }) => [cell.place, from, to]);
  try {
    localStorage.setItem(storage, JSON.stringify(set));
    localStorage.setItem(steps, JSON.stringify({ done: plain(done), undone: plain(undone) }));
  } catch { where = "NOT kept here: save before you leave"; }
  const count = Object.keys(set).length;
  $("undo").disabled = !done.length;
  $("redo").disabled = !undone.length;
  $("num-set").textContent = count;
  $("kept").textContent = count ? where : "";
}

function stored(key) {
  try { return JSON.parse(localStorage.getItem(key)) || {}; } catch { return {}; /* no storage, or none of ours in it */ }
}

function recall() {
  const set = stored(storage), { done: before, undone: after } = stored(steps);
  const known = (index) => index === null || index in classes;
  const read = (some) => (Array.isArray(some) ? some : [])
    .filter(([place, from, to]) => place in cells && known(from) && known(to))
    .map(([place, from, to]) => ({ cell: cells[place], from, to }));
  [done, undone] = [read(before), read(after)];
  for (const cell of cells) {
    const index = Object.hasOwn(set, cell.path) ? classes.indexOf(set[cell.path]) : -1;
    if (index >= 0) cell.set = index;
  }
}

// which cells, in which order

const ORDERS = {
  suspicion: (a, b) => (b.suspicion ?? -2000) - (a.suspicion ?? -2000) || (b.doubt ?? -1) - (a.doubt ?? -1),
  doubt: (a, b) => (b.doubt ?? -1) - (a.doubt ?? -1),
  sure: (a, b) => top1(b) - top1(a),
  path: (a, b) => (a.path < b.path ? -1 : 1),
};

function fits(cell) {
  const label = $("by-label").value, predicted = $("by-predicted").value, show = $("show").value;
  if (label !== "" && now(cell) !== Number(label)) return false;
  if (predicted !== "" && cell.predicted !== Number(predicted)) return false;
  if (show === "differ" && (now(cell) < 0 || now(cell) === cell.predicted)) return false;
  if (show === "open" && cell.set !== null) return false;
  if (show === "set" && cell.set === null) return false;
  if (show.startsWith("flag:") && !cell.flags.includes(show.slice(5))) return false;
  return cell.path.toLowerCase().includes($("find").value.toLowerCase());
}

function choose() {
  shown = cells.filter(fits).sort(ORDERS[$("order").value]);
  chosen = 0;
  $("scroll").scrollTop = 0;
  draw();
}

// drawing: only the rows that can be seen exist as elements

const isWide = () => matchMedia("(min-width: 46.01rem)").matches;
const columns = () => Math.max(1, Math.floor($("scroll").clientWidth / WIDTH));

function card(cell, index) {
  const made = element("div", "", "cell", index === chosen && "chosen", cell.set !== null && "set",
    now(cell) >= 0 && now(cell) !== cell.predicted && "differ");
  made.style.left = `${(index % columns()) * WIDTH + 4}px`;
  made.style.top = `${Math.floor(index / columns()) * HEIGHT + 4}px`;
  made.dataset.index = index;
  made.id = `cell-${index}`;
  const said = { role: "option", "aria-selected": index === chosen, "aria-posinset": index + 1, "aria-setsize": shown.length };
  for (const [key, value] of Object.entries(said)) made.setAttribute(key, value);
  made.title = cell.path;
  const share = cell.predicted < 0 ? "" : `${Math.round(cell.shares[cell.predicted] / 10)} %`;
  made.append(
    picture(cell),
    element("div", now(cell) < 0 ? "no label" : name(now(cell)), "what", "label", now(cell) < 0 && "soft"),
    element("div", cell.predicted < 0 ? cell.note : `${share} ${name(cell.predicted)}`, "what", "predicted", "soft"),
  );
  return made;
}

function draw() {
  const across = columns(), rows = Math.ceil(shown.length / across), scroll = $("scroll");
  $("grid").style.height = `${rows * HEIGHT + 8}px`;
  const first = Math.max(0, Math.floor(scroll.scrollTop / HEIGHT) - AROUND) * across;
  const last = Math.min(shown.length, (Math.ceil((scroll.scrollTop + scroll.clientHeight) / HEIGHT) + AROUND) * across);
  $("grid").replaceChildren(...shown.slice(first, last).map((cell, offset) => card(cell, first + offset)));
  if (chosen >= first && chosen < last) scroll.setAttribute("aria-activedescendant", `cell-${chosen}`);
  else scroll.removeAttribute("aria-activedescendant");
  $("none").hidden = shown.length > 0;
  $("shown").textContent = `${shown.length ? chosen + 1 : 0} of ${shown.length} shown, ${cells.length} in all`;
  detail();
}

function detail() {
  const cell = shown[chosen];
  if (!cell) return $("detail").replaceChildren();
  const buttons = classes.map((label, index) => {
    const made = element("button", "", "class", cell.label === index && "was", now(cell) === index && "now");
    made.type = "button";
    made.setAttribute("aria-pressed", now(cell) === index);
    made.style.setProperty("--share", `${(cell.shares[index] ?? 0) / 10}%`);
    made.append(element("kbd", keys[index] ?? ""), element("span", label),
      element("span", cell.shares.length ? `${(cell.shares[index] / 10).toFixed(1)} %` : "", "share"));
    made.addEventListener("click", () => { set(index); $("scroll").focus(); });
    return made;
  });
  const flags = element("p", "", "flags");
  cell.flags.forEach((flag, index) => flags.append(index ? ", " : "", element("b", flag)));
  const large = picture(cell);
  if (cell.picture) {
    large.title = "zoom (z)";
    large.addEventListener("click", openZoom);
  }
  const reduced = cell.picture && !cell.isOwn ? "A thumbnail: the page holds the pixels of the cells that come first." : "";
  const was = cell.set === null ? "" : `Was ${cell.label < 0 ? "without a label" : name(cell.label)}; set here.`;
  const labels = element("div", "", "labels");
  labels.append(...buttons);
  const texts = element("div", "", "texts");
  texts.append(element("p", cell.path, "path"), element("p", cell.note, "note"), flags, element("p", was, "note"),
    element("p", isWide() ? reduced : "", "note"));
  $("detail").replaceChildren(large, texts, labels);
}

// acting

function move(to) {
  if (!shown.length) return;
  chosen = Math.min(Math.max(to, 0), shown.length - 1);
  const row = Math.floor(chosen / columns()) * HEIGHT, scroll = $("scroll");
  if (row < scroll.scrollTop) scroll.scrollTop = row;
  if (row + HEIGHT + 8 > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = row + HEIGHT + 8 - scroll.clientHeight;
  draw();
}

function set(index) {
  const cell = shown[chosen];
  if (!cell || index < 0 || index >= classes.length) return;
  done.push({ cell, from: cell.set, to: index });
  undone = [];
  cell.set = index;
  keep();
  move(chosen + 1);
}

function change(from, to, value) {
  const last = from.pop();
  if (!last) return;
  to.push(last);
  last.cell.set = last[value];
  keep();
  const at = shown.indexOf(last.cell);
  move(at < 0 ? chosen : at);
  if (at < 0) $("kept").textContent = `${last.cell.path}: ${now(last.cell) < 0 ? "no label" : name(now(last.cell))}`;
}

const takeBack = () => change(done, undone, "from");
const doAgain = () => change(undone, done, "to");

// what the enlarged picture of cells.js asks

function enlarged() {
  const cell = shown[chosen];
  if (!cell?.picture) return null;
  return { source: cell.picture, name: cell.path, isOwn: cell.isOwn, surroundings: cell.surroundings, timesWider };
}

function goByKey(key) {
  if (key in MOVES) move(chosen + MOVES[key]());
  return key in MOVES;
}

function save() {
  const inert = (text) => (/^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text); // no formula of a spreadsheet
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = cells.filter((cell) => cell.set !== null).sort(ORDERS.path);
  const lines = ["path,label", ...rows.map((cell) => `${quoted(inert(cell.path))},${quoted(inert(classes[cell.set]))}`)];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "corrections.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  $("kept").textContent = `saved ${rows.length}`;
}

const MOVES = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns(), ArrowDown: () => columns() };

const UNDO_KEYS = { z: takeBack, y: doAgain, Z: doAgain };  // with Ctrl or Command

function onKey(event) {
  if ($("zoom").open) return;
  if ((event.ctrlKey || event.metaKey) && event.key in UNDO_KEYS && event.target.tagName !== "INPUT") {
    UNDO_KEYS[event.key]();
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) {
    if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "find")) $("scroll").focus();
    return;
  }
  const cell = shown[chosen];
  if (goByKey(event.key)) return event.preventDefault();
  if (event.key === "Home") move(0);
  else if (event.key === "End") move(shown.length - 1);
  else if (event.key === "Enter" && !/^(BUTTON|SUMMARY)$/.test(event.target.tagName)) set(cell ? cell.predicted : -1);
  else if (event.key === "a") set(cell ? now(cell) : -1);
  else if (event.key === "u") takeBack();
  else if (event.key === "y") doAgain();
  else if (event.key === "z") openZoom();
  else if (event.key === "s") save();
  else if (event.key.length === 1 && keys.includes(event.key)) set(keys.indexOf(event.key));
  else return;
  event.preventDefault();
}

function start() {
  for (const id of ["by-label", "by-predicted"]) classes.forEach((label, index) => $(id).add(new Option(label, index)));
  for (const flag of new Set(cells.flatMap((cell) => cell.flags))) $("show").add(new Option(flag, `flag:${flag}`));
  if (cells.every((cell) => cell.suspicion === null)) $("order").value = "doubt";
  for (const id of ["order", "by-label", "by-predicted", "show"]) $(id).addEventListener("change", () => { choose(); $("scroll").focus(); });
  $("find").addEventListener("input", choose);
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("save").addEventListener("click", save);
  $("undo").addEventListener("click", takeBack);
  $("redo").addEventListener("click", doAgain);
  $("zoom").addEventListener("close", () => $("scroll").focus());
  $("filters").open = isWide();
  $("scroll").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  $("grid").addEventListener("click", (event) => {
    const card = event.target.closest(".cell");
    if (card) move(Number(card.dataset.index));
    $("scroll").focus();
  });
  addEventListener("resize", () => {
    if (isWide()) $("filters").open = true;  // where nothing is shown to open them with
    draw();
  });
  addEventListener("keydown", onKey);
  recall();
  keep();
  choose();
  $("scroll").focus();
}

start();
