// Agreement between readers, and the cells of which they say different things.
async function loadReaders() {
  const isAwaited = begin("readers"), found = await ask("v1/disagreements").catch(sayError);
  if (!found || !isAwaited()) return;
  const { agreement, cells } = found;
  const lines = agreement.cohen.map(({ a, b, kappa, low, high }) =>
    `${a} and ${b}: Cohen’s kappa ${number(kappa)}${low === null ? "" : ` (${number(low)} to ${number(high)})`}`);
  if (agreement.fleiss !== null) lines.push(`All readers: Fleiss’ kappa ${number(agreement.fleiss)}`);
  const weights = agreement.weighted ? " Weighted: classes are ordered." : "";
  const read = agreement.readers.length > 1
    ? `${agreement.cells} cells were read by more than one reader.${weights}`
    : "One reader so far. For a second reading, blind: another name above, then the cells “second reading, blind”.";
  $("agreement").replaceChildren(element("h2", "Agreement"), element("p", read, "soft"), ...lines.map((line) => element("p", line)),
    ...(agreement.caution ? [element("p", agreement.caution, "wrong")] : []));
  $("disagreements").replaceChildren(element("h2", "Cells to decide"),
    ...(cells.length ? cells.map(disagreement) : [element("p", "No cell has labels that differ.", "soft")]));
}

function disagreement({ cell, labels: said, adjudicated }) {
  const made = element("div", "", "disagreement"), texts = element("div", "");
  for (const [who, value] of Object.entries(said)) texts.append(element("p", `${who}: ${value}`));
  const select = document.createElement("select");
  select.setAttribute("aria-label", `decision about cell ${cell}`);
  select.add(new Option("decide", ""));
  for (const { value } of values()) select.add(new Option(value, value));
  select.value = adjudicated ?? "";
  select.addEventListener("change", () => {
    if (select.value) send("v1/adjudications", { cell, value: select.value }, `decision “${select.value}” of one cell`);
  });
  texts.append(select, element("span", adjudicated ? " decided" : "", "soft"));
  made.append(thumbnail(cell), texts);
  return made;
}
