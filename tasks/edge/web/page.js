// The page: text in, scores as bars, and whether it works offline by now.
import { load } from "./predictor.js";

const SHOWN = 6;
const at = (id) => document.getElementById(id);
const percent = (share) => (share >= 0.9995 ? "100 %" : share < 0.0005 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`);

let predictor = null;
let answered = null; // {prediction, ms}
let showAll = false;

function element(tag, attributes, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

function show(id, message) {
  at(id).textContent = message ?? "";
  at(id).hidden = !message;
}

function setState(text, kind) {
  at("state").textContent = text;
  at("state").className = `state ${kind}`;
}

async function read(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: expected the file, got status ${response.status}; copy the whole folder`);
  return new Uint8Array(await response.arrayBuffer());
}

// Label, share of the bar, and text of each row.
function rowsOf(prediction) {
  if ("entities" in prediction) return prediction.entities.map((e) => [`${e.text} (${e.label})`, e.score, percent(e.score)]);
  if ("score" in prediction) {
    const { low, high } = predictor.manifest.target;
    const name = `${predictor.manifest.labels[0]}, ${low} to ${high}`;
    return [[name, (prediction.score - low) / (high - low), prediction.score.toFixed(2)]];
  }
  const ranked = Object.entries(prediction.probabilities).sort((one, other) => other[1] - one[1]);
  return ranked.map(([label, share]) => [label, share, percent(share)]);
}

function verdict(prediction) {
  if ("entities" in prediction) return prediction.entities.map((e) => e.text).join(", ") || "no entity";
  if ("score" in prediction) return prediction.score.toFixed(2);
  return "labels" in prediction ? prediction.labels.join(", ") || "no label" : prediction.label;
}

function bar([label, share, text]) {
  const fill = element("span", { className: "fill" });
  fill.style.width = `${share * 100}%`;
  const name = element("span", { className: "name", textContent: label });
  const value = element("span", { className: "value", textContent: text });
  return element("li", {}, element("div", { className: "bar" }, fill, name, value));
}

function showAnswer() {
  const { prediction, ms } = answered;
  const rows = rowsOf(prediction);
  at("verdict-label").textContent = verdict(prediction);
  const unsure = prediction.abstained ? "abstained: a person had better answer · " : "";
  at("verdict-meta").textContent = `${unsure}${ms.toFixed(1)} ms on this device`;
  at("bars").replaceChildren(...rows.slice(0, showAll ? undefined : SHOWN).map(bar));
  at("more").hidden = rows.length <= SHOWN;
  at("more").textContent = showAll ? "Show fewer" : `Show all ${rows.length}`;
  at("result").hidden = false;
}

async function classify(event) {
  event?.preventDefault();
  if (predictor === null) return;
  const texts = predictor.manifest.pairs ? [at("text").value, at("text-pair").value] : [at("text").value];
  const missing = !texts.every((text) => text.trim());
  show("error", missing ? (texts.length === 2 ? "Write both texts first." : "Write a text first.") : null);
  if (missing) return;
  const started = performance.now();
  try {
    const prediction = await predictor.predict(predictor.manifest.pairs ? texts : texts[0]);
    answered = { prediction, ms: performance.now() - started };
    showAll = false;
    showAnswer();
  } catch (error) {
    show("error", error.message);
  }
}

function showIdentity({ edge, manifest }) {
  const rows = [
    ["Name", edge.name], ["Version", edge.version], ["Bento", edge.bento],
    ["SHA-256", element("code", { textContent: edge.model_sha256 })],
    ["Answers", { single_label: `one of ${manifest.labels.length} labels`, multi_label: `any of ${manifest.labels.length} labels`,
      score: "a score", entities: "entities" }[manifest.target.task]],
    ["Reads", `${manifest.pairs ? "two texts" : "a text"}, up to ${manifest.max_tokens} tokens`],
    ["Runtime", edge.packages.join(", ")],
  ];
  document.title = at("model-name").textContent = edge.name;
  at("identity").replaceChildren(...rows.flatMap(([term, value]) =>
    [element("dt", { textContent: term }), element("dd", {}, value)]));
  at("pair-field").hidden = !manifest.pairs;
}

// Service workers exist on https and on localhost alone; elsewhere the page works while its server does.
async function keepOffline() {
  if (!("serviceWorker" in navigator)) return setState("ready, needs its web server", "");
  try {
    await kept(await navigator.serviceWorker.register("sw.js"));
    setState("ready, works offline", "ready");
  } catch (error) {
    setState("ready, needs its web server", "");
    console.warn(`The files could not be kept for offline use: ${error.message}`);
  }
}

// Rejects where a file could not be fetched or the device has no room for it; `ready` of the browser would never settle.
function kept({ active, installing, waiting }) {
  if (active || waiting) return null;
  return new Promise((resolve, reject) => installing.addEventListener("statechange", () => {
    if (installing.state === "activated") resolve();
    if (installing.state === "redundant") reject(new Error("a file is missing, or the device has too little room"));
  }));
}

function sendOnEnter(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) classify(event);
}

at("try").addEventListener("submit", classify);
at("text").addEventListener("keydown", sendOnEnter);
at("text-pair").addEventListener("keydown", sendOnEnter);
at("more").addEventListener("click", () => { showAll = !showAll; showAnswer(); });
try {
  predictor = await load(read);
  showIdentity(predictor);
  at("classify").disabled = false;
  await keepOffline();
} catch (error) {
  setState("failed", "away");
  show("error", error.message);
}
