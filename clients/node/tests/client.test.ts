/** The client against a live daemon, whose address is in TAXOND_ADDR. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import { Client } from "../src/client.js";
import { TaxondError } from "../src/errors.js";

const address = process.env["TAXOND_ADDR"]!;
const intents = `${process.env["TAXOND_TREE"]}/tests/interop/data/intents.tsv`;
const examples = readFileSync(intents, "utf8")
  .trim()
  .split("\n")
  .slice(1)
  .map((row) => row.split("\t"))
  .map(([text, label]) => ({ text: text!, label: label! }));
const [small, large] = ["取款两万以下", "取款两万以上"];
const client = new Client(address, { user: "测试员" });
after(() => client.close());

test("create, add, train, predict, merge, undo", async () => {
  assert.equal((await client.createModel("bank")).name, "models/bank");
  const added = await client.addExamples("bank", examples);
  assert.deepEqual([added.added, added.total], [examples.length, examples.length]);

  const kinds: string[] = [];
  for await (const event of client.train("bank", { seed: 1, epochs: 3 })) {
    if (kinds.at(-1) !== event.event) kinds.push(event.event!);
    if (event.finished) assert.equal(event.finished.job!.state, "JOB_STATE_SUCCEEDED");
  }
  assert.deepEqual([kinds[0], kinds.includes("progress"), kinds.at(-1)], ["accepted", true, "finished"]);

  const ask = async () => {
    const { predictions } = await client.predict("bank", ["我想取三万元现金"], { topK: 10 });
    return new Map(predictions[0]!.classes.map(({ name, probability }) => [name, probability]));
  };
  const before = await ask();
  const merged = await client.merge("bank", [small!, large!], "取款");
  assert.equal(merged.manifest!.author, "测试员");
  let last;
  for await (const event of client.watch(merged.job)) last = event;
  assert.ok(last?.finished);
  assert.ok((await ask()).has("取款"));
  await client.undo("bank", "as it was");
  assert.deepEqual(await ask(), before);
});

test("a merge without learning answers with the sum", async () => {
  const ask = async () => (await client.predict("bank", ["取款800"], { topK: 10 })).predictions[0]!.classes;
  const sum = (await ask()).filter(({ name }) => [small, large].includes(name)).reduce((a, c) => a + c.probability, 0);
  assert.equal((await client.merge("bank", [small!, large!], "取款", { learn: "LEARN_NONE" })).job, "");
  const merged = (await ask()).find(({ name }) => name === "取款")!;
  assert.ok(Math.abs(merged.probability - sum) < 1e-6);
});

test("an error says what is wrong", async () => {
  await assert.rejects(client.predict("bank", ["fine", " "]), (error: TaxondError) => {
    assert.ok(error instanceof TaxondError);
    assert.deepEqual([error.code, error.reason], [status.INVALID_ARGUMENT, "INVALID_FIELDS"]);
    assert.equal(error.violations[0]!.field, "texts[1]");
    return true;
  });
  await assert.rejects(client.merge("bank", ["balanse", "取款"], "x"), (error: TaxondError) => {
    assert.deepEqual([error.code, error.metadata["suggestion"]], [status.NOT_FOUND, "balance"]);
    return true;
  });
});

test("an upload that is refused, or fails on this side, stores nothing", async () => {
  await client.createModel("empty");
  await assert.rejects(client.addExamples("nowhere", endless()), { code: status.NOT_FOUND });
  await assert.rejects(client.addExamples("empty", broken()), { message: "the disk is gone" });
  assert.equal((await onceFree(() => client.addExamples("empty", []))).total, 0);
});

test("an upload that is given up in its middle stores nothing, however long its client waited before", async () => {
  await client.createModel("half");
  for (const pause of [0, 1, 10, 50, 100]) {
    await assert.rejects(client.addExamples("half", givenUp(pause)), { message: `given up after ${pause} ms` });
    assert.equal((await onceFree(() => client.addExamples("half", []))).total, 0, `${pause} ms`);
  }
});

/** Three messages, then nothing for some milliseconds, then an error, for which the client cancels its call. */
async function* givenUp(pause: number) {
  yield* some(3000);
  await setTimeout(pause);
  throw new Error(`given up after ${pause} ms`);
}

/** Repeats a call while the daemon has not yet noticed that the one before it was given up. */
async function onceFree<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof TaxondError) || error.code !== status.ABORTED) throw error;
      await setTimeout(10);
    }
  }
}

function* endless() {
  for (let n = 0; n < 200_000; n++) yield { text: `text ${n}`, label: "a" };
}

function* broken() {
  yield* some(5000);
  throw new Error("the disk is gone");
}

function* some(count: number) {
  for (let n = 0; n < count; n++) yield { text: `text ${n}`, label: "a" };
}

test("a call that the daemon could not take is repeated under the same request id", async () => {
  const ids: string[] = [];
  const server = new Server();
  const bytes = (buffer: Buffer) => buffer;
  const path = "/taxond.v1.TaxonomyService/UndoChange";
  const method = { path, requestStream: false, responseStream: false };
  const codec = { requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
  server.addService(
    { undo: { ...method, ...codec } },
    {
      undo: ({ request }: { request: Buffer }, done: (error: object | null, value?: Buffer) => void) => {
        // Field 4, of type string, is the last of the request.
        ids.push(request.subarray(-36).toString());
        if (ids.length < 3) done({ code: status.UNAVAILABLE, details: "not now" });
        else done(null, Buffer.alloc(0));
      },
    },
  );
  const port = await new Promise<number>((fulfil, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : fulfil(port),
    ),
  );
  const other = new Client(`127.0.0.1:${port}`);
  await other.undo("bank");
  other.close();
  server.forceShutdown();
  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 1);
  assert.match(ids[0]!, /^[0-9a-f-]{36}$/);
});

test("the tour runs", () => {
  const printed = execFileSync("node", ["dist/src/tour.js", intents, address], { encoding: "utf8", stdio: "pipe" });
  assert.match(printed, /^378 examples$/m);
  assert.match(printed, /^JOB_STATE_SUCCEEDED$/m);
  assert.match(printed, /^models\/node-tour\/versions\/2 取款 0\.\d{4}, 挂失银行卡 0\.\d{4}$/m);
});
