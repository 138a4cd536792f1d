// Entities in a text, as `bento/entities.py` finds them.
import { argmax, softmax } from "./answers.js";

const WORD = /(?:(?![\u2e80-\u9fff\uf900-\ufaff])[\p{L}\p{N}_])+|[^\p{White_Space}\x1c-\x1f]/gu;

// [start, end) of each word, in characters.
export function wordsOf(text) {
  const words = [];
  let place = 0, unit = 0;
  for (const found of text.matchAll(WORD)) {
    place += Array.from(text.slice(unit, found.index)).length;
    const start = place;
    place += Array.from(found[0]).length;
    unit = found.index + found[0].length;
    words.push([start, place]);
  }
  return words;
}

// The token at which each word's tag is read: the first that has a part of it; -1 for a word that was cut off.
export function firstTokens(offsets, words) {
  const found = new Array(words.length).fill(-1);
  let at = 0;
  offsets.forEach((offset, token) => {
    if (offset === null || offset[1] <= offset[0]) return;
    while (at < words.length && words[at][1] <= offset[0]) at += 1;
    for (let here = at; here < words.length && words[here][0] < offset[1]; here += 1) {
      if (found[here] < 0) found[here] = token;
    }
  });
  return found;
}

// The runs of words that tags make, by the rules of CoNLL's evaluation; a null tag belongs to what it stands in.
export function groupTags(tags) {
  const groups = [];
  let kind = "", members = [];
  const end = () => { if (members.length) groups.push({ type: kind, words: members }); };
  tags.forEach((tag, at) => {
    if (tag === null) return;
    const dash = tag.indexOf("-");
    const [prefix, name] = dash < 0 ? [tag, ""] : [tag.slice(0, dash), tag.slice(dash + 1)];
    if (prefix === "I" && members.length && name === kind) {
      members.push(at);
      return;
    }
    end();
    [kind, members] = [name, prefix === "O" ? [] : [at]];
  });
  end();
  return groups;
}

// logits: one row of `labels.length` a token, flat.
export function findEntities(text, logits, offsets, { labels, temperature, max_tokens: numWords }) {
  const words = wordsOf(text).slice(0, numWords);
  const rows = firstTokens(offsets, words).map((token) =>
    token < 0 ? null : softmax(logits.slice(token * labels.length, (token + 1) * labels.length), temperature));
  const chars = Array.from(text);
  return groupTags(rows.map((row) => row && labels[argmax(row)])).map(({ type, words: members }) => {
    const start = words[members[0]][0], end = words[members.at(-1)][1];
    const score = members.reduce((sum, word) => sum + Math.max(...rows[word]), 0) / members.length;
    return { text: chars.slice(start, end).join(""), label: type, start, end, score };
  });
}
