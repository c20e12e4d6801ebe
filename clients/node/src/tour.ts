/** The main job against a running daemon: npm run tour -- FILE.tsv [ADDRESS]. The file has the columns text and category. */

import { readFileSync } from "node:fs";
import { Client } from "./client.js";
import type { JobEvent__Output } from "./gen/taxond/v1/JobEvent.js";

const [file, address = process.env["TAXOND_ADDR"] ?? "127.0.0.1:50061"] = process.argv.slice(2);
if (!file) throw new Error("usage: npm run tour -- FILE.tsv [ADDRESS]");
const rows = readFileSync(file, "utf8").trim().split("\n").slice(1);
const examples = rows.map((row) => row.split("\t")).map(([text, label]) => ({ text: text!, label: label! }));

const client = new Client(address, { user: "node-tour" });
try {
  await client.createModel("node-tour");
  const { added } = await client.addExamples("node-tour", examples);
  console.log(`${added} examples`);

  const follow = async (events: AsyncIterable<JobEvent__Output>) => {
    for await (const { progress, published, finished } of events) {
      if (progress) console.error(`${progress.stage} ${progress.epoch}/${progress.epochs} loss ${progress.loss.toFixed(3)}`);
      if (published) console.log(`${published.version!.name}: ${published.version!.report!.gate}`);
      if (finished) console.log(finished.job!.state);
    }
  };
  await follow(client.train("node-tour", { seed: 1 }));

  const ask = async () => {
    const { predictions, version } = await client.predict("node-tour", ["我想取三万元现金", "please block my lost card"]);
    console.log(version, predictions.map(({ classes }) => `${classes[0]!.name} ${classes[0]!.probability.toFixed(4)}`).join(", "));
  };
  await ask();
  const merged = await client.merge("node-tour", ["取款两万以下", "取款两万以上"], "取款", { reason: "one counter" });
  console.log(`${merged.manifest!.description}, after ${(merged.seconds * 1000).toFixed(1)} ms`);
  await ask();
  await follow(client.watch(merged.job));
  await client.undo("node-tour");
  await ask();
  await client.deleteModel("node-tour");
} finally {
  client.close();
}
