// Progress, the running estimate, the mixture of the next cells, and the end.
const MIXTURE = {
  doubt: "cells in doubt", diversity: "unlike each other", mistakes: "suspected mistakes", rare: "rare predicted classes",
  test: "share of test cells",
};
const MIXTURE_MS = 400;
let mixtureTimer = 0;

const number = (value) => value.toFixed(2);
const percent = (value) => `${(100 * value).toFixed(0)} %`;
const interval = (found) => (found ? `${percent(found[0])} (${percent(found[1])} to ${percent(found[2])})` : "not known yet");
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function drawOverview() {
  const { classes, features, classifier, not_a_cell: none, unsure, n_cells: total } = overview;
  const labelled = classes.reduce((sum, one) => sum + one.labels, 0) + none + unsure;
  $("project").textContent = overview.project;
  $("counts").textContent = `${labelled.toLocaleString("en")} of ${plural(total, "cell")} labelled`;
  $("classifier").textContent = classifier
    ? `Classifier: ${classifier.name}, ${plural(classifier.labels, "label")}, fit ${classifier.number}` : "No classifier yet";
  $("features").hidden = features.done >= features.total && !features.error;
  $("features-bar").value = features.total ? features.done / features.total : 0;
  $("features-text").textContent = features.error ?? `${features.done.toLocaleString("en")} of ${features.total.toLocaleString("en")}`;
  $("problem").textContent = overview.problem ?? "";
  $("undo").disabled = !overview.can_undo;
  $("redo").disabled = !overview.can_redo;
  const rows = [...classes, { name: NOT_A_CELL, labels: none }, { name: UNSURE, labels: unsure }];
  $("classes").tBodies[0].replaceChildren(...rows.map((one) => {
    const made = document.createElement("tr"), head = element("th", one.name);
    head.scope = "row";
    made.append(head, ...[one.labels, one.test_labels, one.predicted].map((value) => element("td", value ?? "")));
    return made;
  }));
  drawEstimate();
  drawEncoder();
}

function drawEstimate() {
  const { n, groups, accuracy, sensitivity, method, marks, hint, naive } = overview.estimate;
  const made = [
    element("p", `Accuracy ${interval(accuracy)}`, "figure"),
    element("p", `Unbiased: from ${plural(n, "label")} of ${plural(groups, "group")} of the test share.`, "soft"),
    element("p", overview.groups, "soft"),
    element("p", hint.sentence, "hint", hint.stop && "stop"),
    ...marks.map((mark) => element("p", mark, "wrong")),
  ];
  const more = element("details", ""), known = Object.entries(sensitivity);
  more.open = $("estimate").querySelector("details")?.open ?? false;
  more.append(element("summary", "Sensitivity of each class"), ...known.map(([name, found]) => element("p", `${name}: ${interval(found)}`)),
    element("p", `Method: ${method}${naive === null ? "" : `. All labels, which active learning chose: ${percent(naive)}, biased.`}`, "soft"));
  $("estimate").replaceChildren(...made, more);
}

async function drawForecast() {  // takes seconds: only when it is opened
  if (!$("forecast").open) return;
  $("forecast-text").textContent = "Classifiers are fitted to parts of the labels…";
  const found = await ask("v1/forecast").catch((error) => ({ sentence: error.message }));
  $("forecast-text").textContent = found.sentence;
}

function drawEncoder() {
  const { name, has_lora: hasLora, training } = overview.encoder, problem = overview.lora_problem;
  $("encoder-choice").hidden = !hasLora;
  if (document.activeElement !== $("encoder")) $("encoder").value = name;
  $("lora-start").hidden = Boolean(training);
  $("lora-start").textContent = hasLora ? "Train LoRA anew" : "Train LoRA";
  $("lora-stop").hidden = $("lora-progress").hidden = !training;
  $("lora-bar").value = training?.total ? training.done / training.total : 0;
  $("lora-text").textContent = training ? trainingText(training) : problem ?? "";
  $("lora-text").className = problem && !training ? "wrong" : "soft";
}

function trainingText({ done, total, left, labels: given }) {
  if (!done) return `Begins, with ${plural(given, "label")}…`;
  if (left === null) return percent(done / total);
  return `${percent(done / total)}, about ${left < 90 ? `${Math.round(left)} s` : `${Math.round(left / 60)} min`} left`;
}

const startLora = () => changeEncoder("v1/lora", { method: "POST" });
const stopLora = () => changeEncoder("v1/lora", { method: "DELETE" });
const chooseEncoder = () => changeEncoder("v1/encoder", { method: "PUT", body: { name: $("encoder").value } });

async function changeEncoder(path, options) {
  await ask(path, { ...options, as: "text" }).then(() => say(""), sayError);
  $("encoder").blur();
  poll();
}

function drawMixture() {
  $("mixture").replaceChildren(...Object.entries(MIXTURE).map(([key, text]) => {
    const made = document.createElement("label"), slider = document.createElement("input");
    const value = element("span", percent(overview.mixture[key]), "share");
    Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.05, value: overview.mixture[key] });
    slider.dataset.key = key;
    slider.addEventListener("input", () => {
      overview.mixture[key] = Number(slider.value);
      value.textContent = percent(overview.mixture[key]);
      clearTimeout(mixtureTimer);
      mixtureTimer = setTimeout(sendMixture, MIXTURE_MS);
    });
    made.append(text, slider, value);
    return made;
  }), element("p", "Cells of the test share are drawn at random, with recorded probability; the other sliders weigh cells of the training share.", "soft"));
}

async function sendMixture() {
  const sent = mixtureTimer;
  const mixture = Object.fromEntries(Object.keys(MIXTURE).map((key) => [key, overview.mixture[key]]));
  const isDone = await ask("v1/mixture", { method: "PUT", body: mixture, as: "text" }).then(() => true, sayError);
  if (mixtureTimer === sent) mixtureTimer = 0;  // else a slider was moved again
  if (!isDone) return;
  say("The mixture is set.");
  refill(true);
}

async function finish() {
  if (outbox.length) return say("Some labels are not stored yet.", true);
  const found = await ask("v1/finish", { method: "POST" }).catch(sayError);
  if (!found) return;
  const next = found.lacking || "This command makes the classifier, with the test share as its test set:";
  $("finished-text").textContent = `The labels are in ${found.labels}. ${next}`;
  $("finished-command").textContent = found.command;
  $("finished").showModal();
}
