// The audit queue: one text after the other gets its label. A label is held back for a moment, so that it can be undone.

import { call, giveFeedback } from "./api.js";
import { Picker, at, bar, element, percent, show } from "./parts.js";

const FETCHED = 100;
const UNDO_WITHIN_MS = 5000;
let known = []; // labels of the model
let queue = [];
let progress = {}; // of both streams, when they were fetched
let done = { random: 0, targeted: 0 }; // labels given since
let held = null; // the last item with its label, not yet sent
let timer = null;
let refused = null; // an item that had another label already, with the one that was given
const picker = new Picker(at("audit-other"), "Another label", give);

export async function loadAudit() {
  try {
    const found = await call(`audit?limit=${FETCHED}`);
    queue = found.items.filter((item) => !same(item, held?.item));
    progress = found.progress;
    showError(null);
  } catch (error) {
    queue = [];
    progress = {};
    showError(error.message);
  }
  done = { random: 0, targeted: 0 };
  if (held) done[held.item.stream] = 1;
  showItem();
}

export function useLabels(labels) {
  known = labels;
  picker.use(labels);
}

function showError(message, item = null) {
  show("audit-error", message);
  refused = item;
  at("audit-replace").hidden = !item;
}

function showProgress() {
  const labelled = (progress.random_labelled ?? 0) + done.random;
  const drawn = (progress.random_labelled ?? 0) + (progress.random_waiting ?? 0);
  const targeted = (progress.targeted_waiting ?? 0) - done.targeted;
  at("audit-progress").hidden = !drawn;
  at("audit-progress").max = drawn || 1;
  at("audit-progress").value = labelled;
  at("audit-count").textContent = (drawn ? `${labelled} of ${drawn} drawn` : "") + (targeted > 0 ? ` · ${targeted} targeted` : "");
}

const same = (a, b) => a.request_id === b?.request_id && a.item === b?.item;

function showItem() {
  const [item] = queue;
  at("audit-empty").hidden = Boolean(item);
  at("audit-item").hidden = !item;
  showProgress();
  if (!item) return;
  at("audit-stream").textContent = item.stream === "random" ? "Drawn at random" : `Picked, not drawn: ${item.reason.replaceAll("_", " ")}`;
  showProposal(item.proposal);
  at("audit-text").textContent = item.text;
  at("audit-pair").textContent = item.text_pair ?? "";
  at("audit-pair").hidden = item.text_pair === null;
  picker.clear();
  at("audit-candidates").replaceChildren(...item.candidates.map(({ label, probability }, index) =>
    bar({ label, probability, key: String(index + 1), choose: (right) => give(right, false) })));
}

function showProposal(proposal) {
  at("audit-proposal").hidden = !proposal;
  if (!proposal) return;
  const words = `The teacher suggests “${proposal.label}” (${percent(proposal.probability)}); judge for yourself. `;
  const key = element("span", { className: "wide" }, element("kbd", { textContent: "T" }), " takes it.");
  at("audit-proposal").replaceChildren(words, key);
}

async function give(label, isNew) {
  const item = queue.shift();
  if (!item) return;
  const before = settle();
  held = { item, label, isNew };
  done[item.stream] += 1;
  timer = setTimeout(settleLast, UNDO_WITHIN_MS);
  showHeld();
  showItem();
  if (!at("audit-item").hidden) at("audit-item").focus({ preventScroll: true });
  else at("audit-undo").focus();
  await before;
}

function showHeld() {
  at("audit-held").hidden = !held;
  at("audit-held-text").textContent = held ? `“${held.label}” for “${held.item.text.slice(0, 60)}”` : "";
}

// Send the label that is held back; an item whose label is refused comes back to the front.
async function settle(last = false) {
  clearTimeout(timer);
  if (!held) return;
  const { item, label, isNew } = held;
  held = null;
  showHeld();
  try {
    await giveFeedback(item, label, { new_label: isNew, audit: true }, last);
    showError(null);
  } catch (error) {
    const another = error.code === "already_labelled";
    showError(`“${item.text.slice(0, 60)}”: ${error.message}`, another ? { item, label, isNew } : null);
    if (another) return;
    queue.unshift(item);
    done[item.stream] -= 1;
    showItem();
  }
}

async function settleLast() {
  await settle();
  if (!queue.length) await loadAudit();
}

function undo() {
  if (!held) return;
  clearTimeout(timer);
  queue.unshift(held.item);
  done[held.item.stream] -= 1;
  held = null;
  showHeld();
  showItem();
  at("audit-item").focus();
}

// Another label was there first: a person may correct it, and the service keeps both.
async function replace() {
  const { item, label, isNew } = refused;
  try {
    await giveFeedback(item, label, { new_label: isNew, audit: true, replace: true });
    showError(null);
    at("audit-item").focus();
  } catch (error) {
    showError(error.message, { item, label, isNew });
  }
}

function skip() {
  queue.push(queue.shift());
  showItem();
  at("audit-item").focus();
}

function key(event) {
  if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const onItem = event.target === at("audit-item");
  const candidate = queue[0]?.candidates[event.key === "Enter" && onItem ? 0 : Number(event.key) - 1];
  if (candidate) give(candidate.label, false);
  else if (event.key.toLowerCase() === "u") undo();
  else if (!queue.length) return;
  else if (event.key === "/") picker.input.focus();
  else if (event.key.toLowerCase() === "t" && queue[0].proposal) give(queue[0].proposal.label, !known.includes(queue[0].proposal.label));
  else if (event.key.toLowerCase() === "s") skip();
  else return;
  event.preventDefault();
}

at("audit").addEventListener("keydown", key);
at("audit-skip").addEventListener("click", skip);
at("audit-undo").addEventListener("click", undo);
at("audit-replace").addEventListener("click", replace);
at("audit-refresh").addEventListener("click", async () => { await settle(); await loadAudit(); });
addEventListener("pagehide", () => settle(true));
