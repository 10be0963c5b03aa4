"use strict";
// Of every page of cells (review, label): elements, and the picture of one cell, enlarged by whole numbers so that its
// pixels stay what they are. A page defines enlarged(), the picture as { source, name, isOwn } or null, with
// surroundings, a picture of timesWider its width around the same centre, where there is one, and
// goByKey(key), which goes to another cell and returns whether the key is for that.
const $ = (id) => document.getElementById(id);
const ZOOMS = [1, 2, 3, 4, 6, 8];  // screen pixels to one of the picture
let zoom = 2, isAround = false;

function element(tag, text, ...kinds) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kinds.filter(Boolean).join(" ");
  return made;
}

function drawZoom() {
  const picture = enlarged(), image = $("zoomed");
  if (!picture) return $("zoom").close();
  const isWider = isAround && Boolean(picture.surroundings), frame = $("zoom-frame");
  const size = () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    image.style.width = `${width * zoom}px`;
    const what = isWider ? "surroundings, " : picture.isOwn ? "" : "thumbnail of ";
    $("zoom-text").textContent = `${picture.name}, ${what}${width} × ${height} pixels, ${zoom} to 1`;
    if (!isWider) return;
    const [across, down] = [width, height].map((edge) => (edge * zoom) / picture.timesWider);
    const at = { left: image.offsetLeft + across, top: image.offsetTop + down, width: across, height: down };
    for (const [key, value] of Object.entries(at)) frame.style[key] = `${value}px`;
  };
  $("zoom-around").hidden = !picture.surroundings;
  $("zoom-around").setAttribute("aria-pressed", isWider);
  frame.hidden = !isWider;
  image.onload = size;
  image.src = isWider ? picture.surroundings : picture.source;
  size();
}

function turnAround() {
  if (!enlarged()?.surroundings) return;
  isAround = !isAround;
  drawZoom();
}

function openZoom() {
  if (!enlarged()) return;
  $("zoom").showModal();
  $("zoom-in").focus();
  drawZoom();
}

function zoomBy(steps) {
  zoom = ZOOMS[Math.min(Math.max(ZOOMS.indexOf(zoom) + steps, 0), ZOOMS.length - 1)];
  drawZoom();
}

function zoomByKey(key) {
  if (key === "z") $("zoom").close();
  else if (key === "w") turnAround();
  else if (key === "+" || key === "=") zoomBy(1);  // + without Shift on some keyboards
  else if (key === "-") zoomBy(-1);
  else return false;
  return true;
}

$("zoom").addEventListener("keydown", (event) => {
  if (!goByKey(event.key) && !zoomByKey(event.key)) return;
  event.preventDefault();
  event.stopPropagation();
  if ($("zoom").open) drawZoom();
});
$("zoom-in").addEventListener("click", () => zoomBy(1));
$("zoom-out").addEventListener("click", () => zoomBy(-1));
$("zoom-around").addEventListener("click", turnAround);
