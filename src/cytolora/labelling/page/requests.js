// Requests to the server. What a reader decides waits in the outbox until the server says that it is stored; each has an
// id of its own, so that it may be sent again and is one entry all the same.
const TOKEN = new URLSearchParams(location.search).get("token") ?? "";
const OUTBOX = "cytolora-label-outbox", AGAIN_MS = 500;
const NUM_LOADING = 4;  // pictures at once; a browser has six connections, and a label never waits for one
const MAX_PICTURES = 600;
const outbox = [];
const pictures = new Map();  // address -> promise of the address of a blob, the one used last at the end
const loading = { running: 0, waiting: [] };
let isSending = false;

class Refused extends Error {}  // the server answered, and stored nothing

async function ask(path, { method = "GET", body, as = "json" } = {}) {
  const headers = { Authorization: `Bearer ${TOKEN}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (response.ok) return response[as]();
  let detail = null;
  try { ({ detail } = await response.json()); } catch { /* no answer of the server itself */ }
  throw new Refused(typeof detail === "string" ? detail : `refused (${response.status})`);
}

// Answers come when they come: what the reader did meanwhile holds.
const latest = {};

function begin(kind) {
  const mine = (latest[kind] = Symbol(kind));
  return () => latest[kind] === mine;
}

const asReader = (path, more = {}) => `${path}?${new URLSearchParams({ reader: reader(), ...more })}`;

// the outbox: one request after the other, in the order of the keys

function send(path, body, text) {
  const id = crypto.randomUUID();
  outbox.push({ path, body: { reader: reader(), client_id: id, ...body }, text, why: "", isRefused: false });
  pump();
  return id;
}

async function once(item) {
  try {
    return await ask(item.path, { method: "POST", body: item.body });
  } catch (error) {
    if (error instanceof Refused) throw error;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    return ask(item.path, { method: "POST", body: item.body });
  }
}

async function pump() {
  keepOutbox();
  if (isSending) return;
  isSending = true;
  while (outbox.length && !outbox[0].why) {
    const item = outbox[0];
    let answer = null;
    try {
      answer = await once(item);
      outbox.shift();
    } catch (error) {
      item.isRefused = error instanceof Refused;
      if (item.isRefused && !item.body.value) {  // an undo of nothing: there is nothing to send again
        outbox.shift();
        say(error.message, true);
      } else {
        item.why = item.isRefused ? error.message : "The server does not answer.";
        onNotStored(item);
      }
    }
    keepOutbox();
    if (answer) queueMicrotask(() => onStored(item, answer));  // a fault in drawing it stops no other label
  }
  isSending = false;
}

function keepOutbox() {
  const failed = outbox[0]?.why ? outbox : [];
  $("outbox").hidden = !failed.length;
  $("outbox-text").textContent = failed.length
    ? `NOT stored: ${failed.length === 1 ? failed[0].text : `${failed.length} labels, the first of them ${failed[0].text}`}. ${failed[0].why}` : "";
  try { sessionStorage.setItem(OUTBOX, JSON.stringify(outbox)); } catch { /* then a reload loses what is not stored */ }
}

function recallOutbox() {  // before any key is heard: what is sent next is kept in the same place
  try {
    const kept = JSON.parse(sessionStorage.getItem(OUTBOX)) ?? [];
    outbox.push(...kept.filter((item) => item?.path && item.body?.client_id).map((item) => ({ ...item, why: "" })));
  } catch { /* nothing of ours in it */ }
}

function resend() {
  if (outbox.length) outbox[0].why = "";
  pump();
}

function discard() {
  const item = outbox.shift();
  if (item?.body.value) dropUndoOf(item);
  if (item) onDiscarded(item);
  resend();
}

function dropUndoOf(item) {  // one that waits behind a label that is never sent would take an older one back
  let open = 1;
  const place = outbox.findIndex(({ path, body }) => {
    if (body.reader === item.body.reader) open += path === "v1/undo" ? -1 : 1;
    return !open;
  });
  if (place >= 0) outbox.splice(place, 1);
}

const isWaiting = (cell) => outbox.some((item) => item.body.cells?.includes(cell));

// pictures, as blobs: an address in an img element could not carry the token

function picture(cell, size) {
  const path = `v1/cells/${cell}/picture?size=${size}`;
  let found = pictures.get(path);
  pictures.delete(path);
  if (!found) {
    found = turn(size > SMALL).then(() => ask(path, { as: "blob" })).then((blob) => URL.createObjectURL(blob)).finally(nextTurn);
    found.catch(() => pictures.delete(path));
  }
  pictures.set(path, found);
  if (pictures.size > MAX_PICTURES) {
    const [oldest, address] = pictures.entries().next().value;
    pictures.delete(oldest);
    address.then((url) => URL.revokeObjectURL(url), () => {});
  }
  return found;
}

function turn(isFirst) {
  if (loading.running < NUM_LOADING) {
    loading.running += 1;
    return Promise.resolve();
  }
  return new Promise((resolve) => loading.waiting[isFirst ? "unshift" : "push"](resolve));
}

function nextTurn() {
  const waiting = loading.waiting.shift();
  if (waiting) waiting();
  else loading.running -= 1;
}

function pictureElement(cell, size, alt = "") {
  const image = document.createElement("img");
  image.alt = alt;
  picture(cell, size).then((url) => { image.src = url; }, () => image.replaceWith(element("span", "cannot be read", "lost")));
  return image;
}
