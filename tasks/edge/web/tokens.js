// Text -> token ids, truncated as the tokenizers library does (`truncate_encodings`).
import { Tokenizer } from "./vendor/tokenizers.js";

const CHINESE = [[0x4e00, 0x9fff], [0x3400, 0x4dbf], [0x20000, 0x2a6df], [0x2a700, 0x2b73f], [0x2b740, 0x2b81f],
  [0x2b920, 0x2ceaf], [0xf900, 0xfaff], [0x2f800, 0x2fa1f]];
const REMOVED = /^[\p{Cc}\p{Cf}\p{Co}\0\ufffd]$/u;
const SPACE = /^\p{White_Space}$/u;

export class Tokens {
  constructor(tokenizerJson, config, maxTokens) {
    this.tokenizer = new Tokenizer(tokenizerJson, config);
    this.maxTokens = maxTokens;
    const rules = tokenizerJson.normalizer;
    this.bert = rules?.type === "BertNormalizer" && this.tokenizer.pre_tokenizer !== null ? rules : null;
  }

  // One text, or a pair [first, second] -> {ids, types, offsets}; offsets: [start, end) in characters, of one text whose
  // tokenizer is BERT's, null for special tokens; else absent.
  encode(input) {
    const [first, second] = (Array.isArray(input) ? input : [input]).map((text) => this.#pieces(text));
    const numSpecial = this.#finish([], second && []).tokens.length;
    const lengths = share(first.tokens.length, second?.tokens.length, this.maxTokens - numSpecial);
    const kept = first.tokens.slice(0, lengths[0]);
    const { tokens, token_type_ids: types } = this.#finish(kept, second?.tokens.slice(0, lengths[1]));
    const { model } = this.tokenizer;
    const ids = tokens.map((token) => this.tokenizer.token_to_id(token) ?? model.unk_token_id);
    const at = kept.length ? this.#finish(kept.map((_, place) => `\0${place}`), null).tokens : [];
    const offsets = first.offsets && !second && at.map((token) => first.offsets[token.match(/^\0(\d+)$/)?.[1]] ?? null);
    return { ids, types: types ?? new Array(ids.length).fill(0), offsets };
  }

  #finish(first, second) {
    const finish = this.tokenizer.post_processor;
    return finish ? finish(first, second ?? null, true) : { tokens: [...first, ...(second ?? [])] };
  }

  #pieces(text) {
    return this.bert ? this.#bertPieces(text) : { tokens: this.tokenizer.encode_text(text) };
  }

  // As `encode_text`, but with BERT's normalizer as it is in the tokenizers library, and with offsets.
  #bertPieces(text) {
    const tokens = [], offsets = [];
    let start = 0;
    for (const section of this.tokenizer.splitter_unnormalized.split(text)) {
      const end = start + Array.from(section).length;
      if (this.tokenizer.added_tokens_map.has(section)) {
        tokens.push(section);
        offsets.push([start, end]);
      } else {
        this.#sectionPieces(section, start, tokens, offsets);
      }
      start = end;
    }
    return { tokens, offsets };
  }

  #sectionPieces(section, start, tokens, offsets) {
    const { chars, origins } = normalize(section, this.bert, start);
    let at = 0;
    for (const word of this.tokenizer.pre_tokenizer(chars.join(""))) {
      const length = Array.from(word).length;
      while (chars[at] === " ") at += 1;
      const pieces = this.tokenizer.model([word]);
      const lengths = pieces.map((piece) => pieces.length === 1 ? length : this.#pieceLength(piece));
      for (const [place, piece] of pieces.entries()) {
        tokens.push(piece);
        offsets.push([origins[at], origins[at + lengths[place] - 1] + 1]);
        at += lengths[place];
      }
    }
  }

  #pieceLength(piece) {
    const prefix = this.tokenizer.model.config.continuing_subword_prefix;
    return Array.from(piece.startsWith(prefix) ? piece.slice(prefix.length) : piece).length;
  }
}

// The normalised characters and, of each, the place of the character that it came from.
export function normalize(text, rules, start = 0) {
  const chars = [], origins = [];
  Array.from(text).forEach((char, place) => {
    for (const made of normalizeChar(char, rules)) {
      chars.push(made);
      origins.push(start + place);
    }
  });
  return { chars, origins };
}

function normalizeChar(char, rules) {
  if (rules.clean_text) {
    if (REMOVED.test(char) && !"\t\n\r".includes(char)) return "";
    if (SPACE.test(char)) char = " ";
  }
  const code = char.codePointAt(0);
  const padded = rules.handle_chinese_chars && CHINESE.some(([low, high]) => low <= code && code <= high);
  if (rules.strip_accents ?? rules.lowercase) char = char.normalize("NFD").replace(/\p{Mn}/gu, "");
  if (rules.lowercase) char = Array.from(char, (one) => one.toLowerCase()).join("");
  return padded ? ` ${char} ` : char;
}

// How many tokens of one or two texts are kept: the longer one is cut first.
export function share(numFirst, numSecond, limit) {
  if (numSecond === undefined) return [Math.min(numFirst, limit)];
  if (numFirst + numSecond <= limit) return [numFirst, numSecond];
  let short = Math.min(numFirst, numSecond);
  let long = short > limit ? short : Math.max(short, limit - short);
  if (short + long > limit) {
    short = Math.floor(limit / 2);
    long = short + limit % 2;
  }
  return numFirst > numSecond ? [long, short] : [short, long];
}
