// Try the model: a text, its answer, and what was right.

import { call, giveFeedback } from "./api.js";
import { Picker, at, bar, element, percent, show } from "./parts.js";

const SHOWN = 6;
let model = null; // what /identity says
let asked = ""; // the text of the answer that is shown
let answer = null; // the last /predict answer
let showAll = false;
let stored = null; // the label that was stored as right for it
let numAsked = 0;
const picker = new Picker(at("other"), "Another label", save);

export function useModel(identity) {
  model = identity;
  at("pair-field").hidden = !model.pairs;
  at("text-name").textContent = model.pairs ? "First text" : "Text";
  at("classify").textContent = { score: "Score", entities: "Find entities" }[model.task] ?? "Classify";
  picker.use(model.labels);
}

const takesFeedback = () => model.task === "single_label" && stored === null;

async function ask(event) {
  event?.preventDefault();
  if (!model) return;
  const text = at("text").value;
  const pair = model.pairs ? at("text-pair").value : null;
  const missing = !text.trim() ? "Write a text first." : pair?.trim() === "" ? "Write the second text too." : null;
  show("try-error", missing);
  if (missing) return;
  const number = (numAsked += 1);
  const started = performance.now();
  try {
    const found = await call("predict", { text, return_all: true, ...(pair !== null && { text_pair: pair }) });
    if (number !== numAsked) return; // a later text was asked meanwhile
    answer = { ...found, ms: performance.now() - started };
  } catch (error) {
    if (number === numAsked) show("try-error", error.message);
    return;
  }
  asked = text;
  showAll = false;
  stored = null;
  at("feedback-note").textContent = "";
  picker.clear();
  showAnswer();
}

// The text with its entities marked; their places count characters, not the UTF-16 units of JavaScript.
function marked(text, entities) {
  const characters = [...text];
  const part = (start, end) => characters.slice(start, end).join("");
  let from = 0;
  const nodes = entities.flatMap((entity) => {
    const kind = element("span", { className: "kind", textContent: entity.label });
    const mark = element("mark", { title: percent(entity.score) }, part(entity.start, entity.end), " ", kind);
    const nodes = [part(from, entity.start), mark];
    from = entity.end;
    return nodes;
  });
  return [...nodes, part(from)];
}

function verdict(prediction) {
  if ("entities" in prediction) return prediction.entities.length ? marked(asked, prediction.entities) : ["no entity"];
  if ("score" in prediction) return [prediction.score.toFixed(2)];
  return ["labels" in prediction ? prediction.labels.join(", ") || "no label" : prediction.label];
}

function showAnswer() {
  const [prediction] = answer.predictions;
  const ranked = Object.entries(prediction.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  const answered = prediction.labels ?? [stored];
  at("verdict-label").replaceChildren(...verdict(prediction));
  const unsure = prediction.abstained ? "abstained: a person had better answer · " : "";
  const sure = "probability" in prediction ? `${percent(prediction.probability)} · ` : "";
  at("verdict-meta").textContent = `${unsure}${sure}version ${answer.model.version} · ${answer.ms.toFixed(0)} ms with the network`;
  at("bars").replaceChildren(...ranked.slice(0, showAll ? undefined : SHOWN).map(([label, probability]) =>
    bar({ label, probability, chosen: answered.includes(label), choose: takesFeedback() ? (right) => save(right, false) : null })));
  at("bars-title").hidden = at("other").hidden = !takesFeedback();
  at("more").hidden = ranked.length <= SHOWN;
  at("more").textContent = showAll ? "Show fewer" : `Show all ${ranked.length}`;
  at("result").hidden = false;
}

async function save(label, isNew) {
  if (!takesFeedback()) return;
  const { request_id } = answer;
  try {
    const found = await giveFeedback({ request_id, item: 0 }, label, { new_label: isNew });
    if (answer.request_id !== request_id) return;
    stored = found.label;
    show("try-error", null);
    at("feedback-note").textContent = found.agrees ? "Thank you: the model was right." : `Thank you: “${found.label}” is stored as right.`;
    showAnswer();
  } catch (error) {
    show("try-error", error.message);
  }
}

at("try").addEventListener("submit", ask);
for (const id of ["text", "text-pair"]) {
  at(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) ask(event);
  });
}
at("more").addEventListener("click", () => { showAll = !showAll; showAnswer(); });
