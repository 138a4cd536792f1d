// Reads {"folder", "texts"} from stdin; writes each text's label -> probability, as Transformers.js answers offline.
import { basename, dirname } from "node:path";
import { env, pipeline } from "@huggingface/transformers";

env.allowRemoteModels = false;
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { folder, texts } = JSON.parse(Buffer.concat(chunks).toString("utf8"));
env.localModelPath = dirname(folder);
const classify = await pipeline("text-classification", basename(folder), { dtype: "fp32" });
const answers = [];
for (const text of texts) {
  const answer = await classify(text, { top_k: null });
  answers.push(Object.fromEntries(answer.map(({ label, score }) => [label, score])));
}
process.stdout.write(JSON.stringify(answers));
