// Start, keys, views, and what changes on the server meanwhile.
const POLL_MS = 1500, READER = "cytolora-label-reader";
const VIEWS = { cell: { key: "c" }, grid: { key: "g", load: openGrid, onKey: onGridKey }, map: { key: "m", load: loadPoints, onKey: onMapKey }, readers: { key: "d", load: loadReaders } };
let overview = null, view = "cell", isLost = false;

const reader = () => $("reader").value.trim() || document.body.dataset.reader;
const isWide = () => matchMedia("(min-width: 46.01rem)").matches;

function say(text, isWrong = false) {
  $("said").textContent = text;
  $("said").className = isWrong ? "wrong" : "";
}

const sayError = (error) => { say(error.message, true); };

function show(name) {
  begin("view");
  if (view === name && document.body.dataset.started) return;
  document.body.dataset.started = "yes";
  view = document.body.dataset.view = name;
  for (const one of Object.keys(VIEWS)) {
    $(`view-${one}`).hidden = one !== name;
    $(`to-${one}`).setAttribute("aria-pressed", one === name);
  }
  VIEWS[name].load?.();
  if (name === "map") requestAnimationFrame(() => { if (!points?.bounds) showAll(); drawMap(); });
  drawLabels();
}

async function poll() {
  try {
    const before = overview?.classifier?.number ?? 0;
    const found = await ask(asReader("v1/overview"));
    if (mixtureTimer) found.mixture = overview.mixture;  // a slider is being moved
    const hadFeatures = overview && overview.features.done >= overview.features.total;
    overview = found;
    drawOverview();
    const isRefit = (found.classifier?.number ?? 0) !== before || (!hadFeatures && found.features.done >= found.features.total);
    if (isRefit || isLost) onRefit();  // what was asked for while the server was away did not come
    isLost = false;
    if (outbox[0]?.why && !outbox[0].isRefused) resend();  // the server is back
  } catch (error) {
    isLost = true;
    say(error instanceof Refused ? error.message : "The server does not answer. Nothing is lost that was stored.", true);
  }
}

function onRefit() {
  if (view === "map") loadPoints();
  if (view === "cell") {
    refill();
    if (current()) drawDetail(current());
  }
  if (view === "grid") loadGrid(() => !chosenInGrid());  // else rows would move under the reader's hands
}

async function pollForEver() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (!document.hidden) await poll();
  }
}

function changeReader() {
  try { sessionStorage.setItem(READER, reader()); } catch { /* then the name lasts until a reload */ }
  labels.clear();
  recent.length = 0;
  startOver();
  poll();
}

function startOver() {
  for (const kind of ["opened", "place"]) begin(kind);
  [trail, at] = [[], 0];
  select([]);
  refill(true);
  drawCell();
  drawRecent();
  VIEWS[view].load?.();
}

const takeBack = () => send("v1/undo", {}, "Taken back");
const doAgain = () => send("v1/redo", {}, "Done again");

function acceptPrediction() {
  const prediction = view === "cell" ? current()?.prediction : null;
  if (prediction) choose(prediction);
}

function onKey(event) {
  if (document.querySelector("dialog[open]") || event.altKey) return;
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.ctrlKey || event.metaKey) {
    const act = { z: takeBack, y: doAgain, Z: doAgain }[event.key];
    if (act && !isTyping) {
      act();
      event.preventDefault();
    }
    return;
  }
  if (isTyping) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (isKnownKey(event)) event.preventDefault();
}

function isKnownKey(event) {
  const { key } = event;
  const to = Object.keys(VIEWS).find((name) => VIEWS[name].key === key);
  const value = values().find((one) => one.key && one.key === key)?.value;
  const acts = { u: takeBack, y: doAgain, z: openZoom };
  if (value !== undefined) choose(value);
  else if (to) show(to);
  else if (acts[key]) acts[key]();
  else if (VIEWS[view].onKey?.(event)) return true;
  else if (goByKey(key)) return true;
  else if (key === "Enter" && !/^(BUTTON|SUMMARY|A)$/.test(event.target.tagName)) acceptPrediction();
  else return false;
  return true;
}

async function start() {
  recallOutbox();
  $("reader").value = document.body.dataset.reader;
  try { $("reader").value = sessionStorage.getItem(READER) ?? $("reader").value; } catch { /* no storage */ }
  $("reader").addEventListener("change", changeReader);
  for (const name of Object.keys(VIEWS)) $(`to-${name}`).addEventListener("click", () => show(name));
  $("undo").addEventListener("click", takeBack);
  $("redo").addEventListener("click", doAgain);
  $("resend").addEventListener("click", resend);
  $("discard").addEventListener("click", discard);
  $("forecast").addEventListener("toggle", drawForecast);
  $("lora-start").addEventListener("click", startLora);
  $("lora-stop").addEventListener("click", stopLora);
  $("encoder").addEventListener("change", chooseEncoder);
  $("finish").addEventListener("click", finish);
  $("back").addEventListener("click", () => goTo(at - 1));
  $("forth").addEventListener("click", () => goTo(at + 1));
  $("kind").addEventListener("change", () => { $("kind").blur(); startOver(); });
  $("progress").open = isWide();
  addEventListener("keydown", onKey);
  addEventListener("resize", () => { if (view === "map") drawMap(); });
  addEventListener("beforeunload", (event) => { if (outbox.length) event.preventDefault(); });
  startMap();
  await poll();
  if (!overview) return setTimeout(() => location.reload(), 3 * POLL_MS);
  drawMixture();
  if (!document.body.dataset.started) show("cell");
  pump();
  await refill();
  pollForEver();
}

start();
