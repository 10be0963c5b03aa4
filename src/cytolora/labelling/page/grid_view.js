// Rows of cells with one prediction, confirmed at once. Cells of the test share are not here: they are read one at a time.
const CARD_PX = 108, SMALL_CARD_PX = 88, GRID_CELLS = 120, MAX_ROW = 12;
let rowsOfGrid = [];  // { value, cells: [{ cell, name, isOut }] }
let lastInGrid = null;  // the cell that had the focus last: a button of a label takes it

function openGrid() {  // rows of an earlier visit may hold cells that were labelled elsewhere
  [rowsOfGrid, lastInGrid] = [[], null];
  drawGrid("…");
  loadGrid();
}

async function loadGrid(isWelcome = () => true) {
  if (!isWelcome()) return;
  const isAwaited = begin("grid"), before = storedCells.length;
  const rows = await ask(asReader("v1/queue", { n: GRID_CELLS })).catch(sayError);
  if (!rows || !isAwaited() || !isWelcome()) return;
  const stored = new Set(storedCells.slice(before));
  const byValue = new Map();
  for (const row of rows) {
    if (row.share === "test" || isWaiting(row.cell) || stored.has(row.cell)) continue;
    const value = row.prediction ?? "";
    if (!byValue.has(value)) byValue.set(value, []);
    byValue.get(value).push({ cell: row.cell, name: row.name, isOut: false });
  }
  const width = Math.min(MAX_ROW, Math.max(2, Math.floor($("rows").clientWidth / (isWide() ? CARD_PX : SMALL_CARD_PX))));
  rowsOfGrid = [];
  for (const [value, cells] of byValue) {
    for (let start = 0; start < cells.length; start += width) rowsOfGrid.push({ value, cells: cells.slice(start, start + width) });
  }
  drawGrid();
}

function changeRow(change) {  // rows that are awaited would undo it
  begin("grid");
  change();
  drawGrid();
}

function drawGrid(none = "No cell of the training share is left here.") {
  const made = rowsOfGrid.map((row, index) => {
    const group = element("div", "", "row");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", row.value ? `predicted ${row.value}` : "without a prediction");
    const select = document.createElement("select");
    select.setAttribute("aria-label", "label of this row");
    select.add(new Option("choose a label", ""));
    for (const { value } of values()) select.add(new Option(value, value));
    select.value = row.value;
    select.addEventListener("change", () => {
      lastInGrid = row.cells[0].cell;  // Enter confirms the row that was changed
      changeRow(() => { row.value = select.value; });
      $("rows").children[index].querySelector("select").focus();
    });
    const count = row.cells.filter((one) => !one.isOut).length;
    const confirm = element("button", row.value ? `Confirm ${count} × ${row.value}` : "Confirm the row", "confirm");
    confirm.type = "button";
    confirm.disabled = !row.value || !count;
    confirm.addEventListener("click", () => confirmRow(index));
    const bar = element("div", "", "row-bar"), cells = element("div", "", "row-cells");
    bar.append(select, confirm);
    cells.append(...row.cells.map((one) => gridCell(one, index)));
    group.append(bar, cells);
    return group;
  });
  $("rows").replaceChildren(...(made.length ? made : [element("p", none, "soft")]));
}

function gridCell(one, row) {
  const made = element("button", "", "thumb", one.isOut && "out", one.cell === lastInGrid && "chosen");
  made.type = "button";
  made.dataset.cell = one.cell;
  made.dataset.row = row;
  made.title = one.name;
  made.setAttribute("aria-label", one.name);
  made.setAttribute("aria-pressed", !one.isOut);
  made.append(pictureElement(one.cell, SMALL));
  made.addEventListener("focus", () => chooseCell(one.cell));
  made.addEventListener("click", () => {
    changeRow(() => { one.isOut = !one.isOut; });
    focusCell(one.cell);
  });
  return made;
}

const buttonOf = (cell) => $("rows").querySelector(`[data-cell="${cell}"]`);
const focusCell = (cell) => buttonOf(cell)?.focus();

function chooseCell(cell) {
  buttonOf(lastInGrid)?.classList.remove("chosen");
  lastInGrid = cell;
  buttonOf(cell)?.classList.add("chosen");
}

function chosenInGrid() {
  const made = buttonOf(lastInGrid);
  return made && { cell: lastInGrid, row: Number(made.dataset.row) };
}

function confirmRow(index) {
  const row = rowsOfGrid[index], cells = row?.cells.filter((one) => !one.isOut).map((one) => one.cell) ?? [];
  if (!cells.length || !row.value) return;
  label(cells, row.value, "row");
  dropFromGrid(new Set(cells));
}

function chooseInGrid(value) {
  const focused = chosenInGrid();
  if (!focused) return say("Choose a cell of a row first (Tab, arrows).", true);
  label([focused.cell], value, "key");
  dropFromGrid(new Set([focused.cell]), focused.row);
}

function dropFromGrid(gone, row = 0) {
  rowsOfGrid = rowsOfGrid
    .map((one) => ({ ...one, cells: one.cells.filter(({ cell }) => !gone.has(cell)) }))
    .filter((one) => one.cells.length);
  if (!rowsOfGrid.length) return openGrid();
  changeRow(() => {});
  focusCell(rowsOfGrid[Math.min(row, rowsOfGrid.length - 1)].cells[0].cell);
}

function onGridKey(event) {
  const focused = chosenInGrid();
  if (!focused) {
    if (event.key.startsWith("Arrow") && rowsOfGrid.length) focusCell(rowsOfGrid[0].cells[0].cell);
    return event.key.startsWith("Arrow");
  }
  const cells = rowsOfGrid[focused.row].cells, place = cells.findIndex(({ cell }) => cell === focused.cell);
  const rowAt = (index) => rowsOfGrid[index]?.cells;
  const to = {
    ArrowLeft: cells[place - 1] ?? rowAt(focused.row - 1)?.at(-1), ArrowRight: cells[place + 1] ?? rowAt(focused.row + 1)?.[0],
    ArrowUp: rowAt(focused.row - 1)?.[place] ?? rowAt(focused.row - 1)?.at(-1),
    ArrowDown: rowAt(focused.row + 1)?.[place] ?? rowAt(focused.row + 1)?.at(-1),
  };
  if (event.key in to) {
    if (to[event.key]) focusCell(to[event.key].cell);
    return true;
  }
  if (event.key !== "Enter" || event.target.matches("button:not(.thumb)")) return false;
  confirmRow(focused.row);
  return true;
}
