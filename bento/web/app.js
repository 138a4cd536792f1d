"use strict";

const SHOWN = 6;
const at = (id) => document.getElementById(id);
const percent = (p) => (p >= 0.9995 ? "100 %" : p < 0.0005 ? "< 0.1 %" : `${(p * 100).toFixed(1)} %`);

let labels = [];
let teachable = true; // whether the service takes one class as feedback
let answer = null; // the last /predict answer
let showAll = false;
let chosen = null; // the label that was given as right for it
let queue = []; // audit items
let total = 0; // audit items when they were fetched
let done = 0;
let saving = false;

function element(tag, attributes, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

function show(id, message) {
  at(id).textContent = message ?? "";
  at(id).hidden = !message;
}

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The service cannot be reached.");
  }
  const content = await response.json();
  if (!response.ok) throw Object.assign(new Error(content.error?.message ?? content.reason), { code: content.error?.code });
  return content;
}

function bar(label, probability, key, choose) {
  const fill = element("span", { className: "fill" });
  fill.style.width = `${probability * 100}%`;
  const parts = [fill];
  if (key) parts.push(element("kbd", { textContent: key }));
  parts.push(element("span", { className: "name", textContent: label }));
  parts.push(element("span", { className: "value", textContent: percent(probability) }));
  const button = element("button", { type: "button", className: "bar", onclick: () => choose(label) }, ...parts);
  return element("li", {}, button);
}

// A label that the model does not have is stored only after a person has said that it is meant.
async function sendFeedback(requestId, item, label) {
  try {
    return await call("feedback", { request_id: requestId, item, label });
  } catch (error) {
    if (error.code !== "unknown_label" || !confirm(`The model does not know “${label}”. Save it as a new label?`)) throw error;
    return await call("feedback", { request_id: requestId, item, label, new_label: true });
  }
}

// Try the model

async function classify(event) {
  event?.preventDefault();
  const text = at("text").value;
  const pair = at("pair-field").hidden ? null : at("text-pair").value;
  const missing = !text.trim() ? "Write a text first." : pair?.trim() === "" ? "Write the second text too." : null;
  show("try-error", missing);
  if (missing) return;
  const started = performance.now();
  try {
    answer = await call("predict", { text, return_all: true, ...(pair !== null && { text_pair: pair }) });
  } catch (error) {
    show("try-error", error.message);
    return;
  }
  answer.ms = performance.now() - started;
  showAll = false;
  chosen = null;
  show("feedback-note", null);
  showAnswer();
}

// A class, a set of them, a score, or entities.
function verdict(prediction) {
  if ("entities" in prediction)
    return prediction.entities.map((e) => `${e.text} (${e.label})`).join(", ") || "no entity";
  if ("score" in prediction) return prediction.score.toFixed(2);
  return "labels" in prediction ? prediction.labels.join(", ") || "no label" : prediction.label;
}

function showAnswer() {
  const [prediction] = answer.predictions;
  const ranked = Object.entries(prediction.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  at("verdict-label").textContent = verdict(prediction);
  const unsure = prediction.abstained ? "abstained: a person had better answer · " : "";
  const sure = "probability" in prediction ? `${percent(prediction.probability)} · ` : "";
  at("verdict-meta").textContent = `${unsure}${sure}version ${answer.model.version} · ${answer.ms.toFixed(1)} ms with the network`;
  const rows = ranked.slice(0, showAll ? undefined : SHOWN).map(([label, p]) => bar(label, p, null, saveAnswer));
  at("bars").replaceChildren(...rows);
  for (const button of at("bars").querySelectorAll("button")) {
    button.disabled = chosen !== null || !teachable;
    button.classList.toggle("chosen", button.querySelector(".name").textContent === chosen);
  }
  at("more").hidden = ranked.length <= SHOWN;
  at("more").textContent = showAll ? "Show fewer" : `Show all ${ranked.length}`;
  at("bars-hint").hidden = at("other").hidden = chosen !== null || !teachable;
  at("result").hidden = false;
}

async function saveAnswer(label) {
  if (chosen !== null || !label.trim()) return;
  try {
    const stored = await sendFeedback(answer.request_id, 0, label.trim());
    chosen = stored.label;
    show("try-error", null);
    show("feedback-note", stored.agrees ? "Thank you: the model was right." : `Thank you: “${stored.label}” is stored as right.`);
    at("other-label").value = "";
    showAnswer();
  } catch (error) {
    show("try-error", error.message);
  }
}

// Audit

async function loadAudit() {
  try {
    const page = await call("audit?limit=100");
    queue = page.items;
    total = queue.length;
    done = 0;
    show("audit-error", null);
  } catch (error) {
    queue = [];
    show("audit-error", error.message);
  }
  showAudit();
}

function showAudit() {
  const [item] = queue;
  at("audit-empty").hidden = Boolean(item);
  at("audit-item").hidden = !item;
  at("audit-count").textContent = item ? `${done + 1} of ${total === 100 ? "100 or more" : total}` : "";
  if (!item) return;
  at("audit-text").textContent = item.text;
  at("audit-pair").textContent = item.text_pair ?? "";
  at("audit-pair").hidden = item.text_pair === null;
  at("audit-label").value = "";
  const rows = item.candidates.map((c, index) => bar(c.label, c.probability, String(index + 1), saveAudit));
  at("audit-candidates").replaceChildren(...rows);
}

async function next() {
  queue.shift();
  done += 1;
  if (queue.length) showAudit();
  else await loadAudit();
}

async function saveAudit(label) {
  if (saving || !queue.length || !label.trim()) return;
  saving = true;
  try {
    await sendFeedback(queue[0].request_id, queue[0].item, label.trim());
    show("audit-error", null);
    await next();
  } catch (error) {
    show("audit-error", error.message);
    if (error.code === "already_labelled") await next();
  } finally {
    saving = false;
  }
}

function skip() {
  show("audit-error", null);
  if (queue.length > 1) {
    queue.push(queue.shift());
    showAudit();
  }
}

function auditKey(event) {
  const typing = event.target.closest("input, textarea, button, a");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !queue.length) return;
  const candidate = queue[0].candidates[event.key === "Enter" ? 0 : Number(event.key) - 1];
  if (candidate) saveAudit(candidate.label);
  else if (event.key === "/") at("audit-label").focus();
  else if (event.key.toLowerCase() === "s") skip();
  else return;
  event.preventDefault();
}

// Identity

function showIdentity(model) {
  labels = model.labels;
  teachable = model.task === "single_label";
  at("pair-field").hidden = !model.pairs;
  at("model-name").textContent = model.name;
  document.title = `${model.name} · Retort`;
  const rows = {
    Version: model.version, Bento: model.bento || "none", Labels: String(labels.length),
    "Longest input": `${model.max_tokens} tokens`, "SHA-256": model.model_sha256,
  };
  at("identity").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [
    element("dt", { textContent: name }),
    element("dd", {}, name === "SHA-256" ? element("code", { textContent: value }) : value),
  ]));
  at("labels").replaceChildren(...labels.map((label) => element("option", { value: label })));
}

async function refresh() {
  const state = at("state");
  try {
    showIdentity(await call("identity"));
    state.className = "state ready";
    state.textContent = "ready";
    state.title = "";
  } catch (error) {
    state.className = "state away";
    state.textContent = "not ready";
    state.title = error.message;
  }
}

at("try").addEventListener("submit", classify);
for (const id of ["text", "text-pair"]) {
  at(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) classify(event);
  });
}
at("more").addEventListener("click", () => { showAll = !showAll; showAnswer(); });
at("other").addEventListener("submit", (event) => { event.preventDefault(); saveAnswer(at("other-label").value); });
at("audit-other").addEventListener("submit", (event) => {
  event.preventDefault();
  saveAudit(at("audit-label").value);
  at("audit-label").blur();
});
at("audit-label").addEventListener("keydown", (event) => { if (event.key === "Escape") event.target.blur(); });
at("audit-skip").addEventListener("click", skip);
at("audit-refresh").addEventListener("click", loadAudit);
document.addEventListener("keydown", auditKey);
setInterval(refresh, 5000);
refresh().then(loadAudit);
