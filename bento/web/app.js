// Who answers, whether a key is needed, and the wiring of the two halves.

import { call, forgetKey, hasKey, useKey, whenRefused } from "./api.js";
import { loadAudit, useLabels } from "./audit.js";
import { at, element, show } from "./parts.js";
import { useModel } from "./try.js";

const REFRESH_MS = 10000;
const TASKS = { single_label: "one label a text", multi_label: "any number of labels a text", score: "a number", entities: "entities in the text" };
let known = ""; // the model that the page shows
let task = "single_label";

function state(name, title = "") {
  at("state").className = `state ${{ ready: "ready", locked: "" }[name] ?? "away"}`;
  at("state").textContent = name;
  at("state").title = title;
}

function askForKey(message) {
  show("key-error", hasKey() ? message : null);
  forgetKey();
  lock(true);
  at("key").focus();
}

function lock(locked) {
  at("key-card").hidden = !locked;
  for (const card of document.querySelectorAll(".locked")) card.hidden = locked || (card.id === "audit" && !teaches());
  at("forget-key").hidden = !hasKey();
  at("metrics-link").hidden = locked || hasKey(); // a plain link carries no key
}

const teaches = () => task === "single_label";

function showModel(model) {
  task = model.task;
  useModel(model);
  useLabels(model.labels);
  at("model-name").textContent = model.name;
  document.title = `${model.name} · Retort`;
  const rows = {
    Version: model.version, Bento: model.bento || "none", Answers: TASKS[model.task], Labels: String(model.labels.length),
    "Longest input": `${model.max_tokens} tokens`, "SHA-256": model.model_sha256,
  };
  at("identity").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [
    element("dt", { textContent: name }),
    element("dd", {}, name === "SHA-256" ? element("code", { textContent: value }) : value),
  ]));
}

async function refresh() {
  try {
    const model = await call("identity");
    lock(false);
    state("ready");
    const identity = `${model.name} ${model.version} ${model.model_sha256}`;
    if (identity === known) return;
    if (!known) at("text").focus();
    known = identity;
    showModel(model);
    lock(false);
    if (teaches()) await loadAudit();
  } catch (error) {
    state(error.status === 401 ? "locked" : "not ready", error.message);
  }
}

whenRefused(askForKey);
at("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  useKey(at("key").value.trim());
  at("key").value = "";
  known = "";
  await refresh();
});
at("forget-key").addEventListener("click", () => { forgetKey(); refresh(); });
setInterval(() => { if (!document.hidden && at("key-card").hidden) refresh(); }, REFRESH_MS);
refresh();
