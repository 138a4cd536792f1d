// Logits -> what the service answers; each function is named after the one in `bento/` that it repeats.

export function answer(given, manifest, entities) {
  const { task, low, high } = manifest.target;
  const logits = manifest.prior === null ? given : corrected(given, manifest);
  if (task === "entities") return { entities: entities(logits) };
  if (task === "score") return { score: low + sigmoid(logits, manifest.temperature)[0] * (high - low) };
  const probabilities = (task === "multi_label" ? sigmoid : softmax)(logits, manifest.temperature);
  const found = task === "multi_label" ? labelSet(probabilities, manifest) : oneLabel(probabilities, manifest);
  return { ...found, probabilities: Object.fromEntries(manifest.labels.map((label, at) => [label, probabilities[at]])) };
}

function corrected(logits, { prior: { before, after }, temperature }) {
  const shift = (at) => (before[at] > 0 ? temperature * Math.log(after[at] / before[at]) : 0);
  return Array.from(logits, (logit, at) => logit + shift(at));
}

export function softmax(logits, temperature) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => Math.fround(power / sum));
}

export function sigmoid(logits, temperature) {
  return Array.from(logits, (logit) => Math.fround(0.5 * (1 + Math.tanh(logit / (2 * temperature)))));
}

export const argmax = (values) => values.reduce((best, value, at) => (value > values[best] ? at : best), 0);

function oneLabel(probabilities, { labels, abstain }) {
  const best = argmax(probabilities);
  const abstained = abstain !== null && scopeConfidence(probabilities, labels, abstain.labels) < abstain.threshold;
  return { label: labels[best], probability: probabilities[best], abstained };
}

function scopeConfidence(probabilities, labels, outOfScope) {
  if (outOfScope.includes(labels[argmax(probabilities)])) return -1;
  return Math.max(0, ...probabilities.filter((_, at) => !outOfScope.includes(labels[at])));
}

function labelSet(probabilities, { labels, threshold }) {
  const order = labels.map((_, at) => at).sort((one, other) => probabilities[other] - probabilities[one]);
  const chosen = order.filter((at) => probabilities[at] >= Math.fround(threshold));
  return { labels: chosen.map((at) => labels[at]), label_probabilities: chosen.map((at) => probabilities[at]) };
}
