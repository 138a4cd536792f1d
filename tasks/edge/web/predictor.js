// Text -> token ids -> onnxruntime-web -> the service's answer, in a browser or in Node.
import { answer } from "./answers.js";
import { findEntities } from "./entities.js";
import { Tokens } from "./tokens.js";
import * as ort from "./vendor/ort.js";

// As `SLOW_FUSIONS` in bento/predictor.py, so that the graph that runs is the service's.
const LEFT_OUT = { optimization: { disable_specified_optimizers: "SkipLayerNormFusion;EmbedLayerNormFusion" } };

// `read(path)` gives the bytes of a file of this folder, as a Uint8Array.
export async function load(read) {
  const json = async (path) => JSON.parse(new TextDecoder().decode(await read(path)));
  const [edge, manifest, config] = await Promise.all(["edge.json", "model/retort.json", "model/config.json"].map(json));
  const tokenizer = await Promise.all(["model/tokenizer.json", "model/tokenizer_config.json"].map(json));
  ort.env.wasm.numThreads = 1; // more need headers that few web servers send
  ort.env.wasm.wasmBinary = await read("vendor/ort.wasm");
  const session = await ort.InferenceSession.create(await read("model/onnx/model.onnx"), {
    executionProviders: ["wasm"], graphOptimizationLevel: manifest.graph_level, extra: LEFT_OUT,
  });
  return new Predictor(edge, manifest, new Tokens(...tokenizer, manifest.max_tokens), session, config.pad_token_id ?? 0);
}

class Predictor {
  constructor(edge, manifest, tokens, session, padId) {
    Object.assign(this, { edge, manifest, tokens, session, padId });
  }

  // One text, or [first, second] of a model of pairs -> the prediction of POST /predict, with every probability.
  async predict(input) {
    this.#check(input);
    const encoding = this.tokens.encode(input);
    const outputs = await this.session.run(this.#feeds(encoding));
    const logits = outputs[this.session.outputNames[0]].data;
    return answer(logits, this.manifest, () => findEntities(input, logits, encoding.offsets, this.manifest));
  }

  #check(input) {
    if (Array.isArray(input) !== this.manifest.pairs || (Array.isArray(input) && input.length !== 2)) {
      throw new TypeError(`expected ${this.manifest.pairs ? "a pair of texts" : "one text"}`);
    }
    if (![input].flat().every((text) => typeof text === "string" && text.trim())) {
      throw new TypeError("expected a text with at least one visible character, got an empty one");
    }
  }

  #feeds({ ids, types }) {
    const { pad_multiple: multiple, max_tokens: limit } = this.manifest;
    const length = Math.max(ids.length, Math.min(Math.ceil(ids.length / multiple) * multiple, limit));
    const padded = (values, filler) => [...values, ...new Array(length - ids.length).fill(filler)];
    const rows = {
      input_ids: padded(ids, this.padId), token_type_ids: padded(types, 0), attention_mask: padded(ids.map(() => 1), 0),
    };
    return Object.fromEntries(this.session.inputNames.map((name) =>
      [name, new ort.Tensor("int64", BigInt64Array.from(rows[name], BigInt), [1, length])]));
  }
}
