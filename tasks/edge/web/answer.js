// In Node: `echo '["a text"]' | node answer.js` writes a JSON list with the answer to each text, or pair of them,
// and its token ids.
import { readFile } from "node:fs/promises";
import { load } from "./predictor.js";

async function answerAll(input) {
  const predictor = await load((path) => readFile(new URL(path, import.meta.url)));
  const answers = [];
  for (const text of JSON.parse(input)) {
    answers.push({ ...(await predictor.predict(text)), token_ids: predictor.tokens.encode(text).ids });
  }
  return answers;
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
try {
  process.stdout.write(`${JSON.stringify(await answerAll(Buffer.concat(chunks).toString("utf8")))}\n`);
} catch (error) {
  process.stderr.write(`${error.message ?? error}\n`);
  process.exitCode = 1;
}
