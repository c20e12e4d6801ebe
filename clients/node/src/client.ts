/** A client of taxond: what a Node program needs of the API, with promises and async iterators. */

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import { failure } from "./errors.js";
import type { ProtoGrpcType as DatasetProtos } from "./gen/dataset_service.js";
import type { ProtoGrpcType as PredictProtos } from "./gen/predict_service.js";
import type { ProtoGrpcType as RegistryProtos } from "./gen/registry_service.js";
import type { ProtoGrpcType as TaxonomyProtos } from "./gen/taxonomy_service.js";
import type { ProtoGrpcType as TrainingProtos } from "./gen/training_service.js";
import type { AddExamplesResponse__Output } from "./gen/taxond/v1/AddExamplesResponse.js";
import type { ChangeApplied__Output } from "./gen/taxond/v1/ChangeApplied.js";
import type { JobEvent__Output } from "./gen/taxond/v1/JobEvent.js";
import type { MergeClassesRequest } from "./gen/taxond/v1/MergeClassesRequest.js";
import type { Model__Output } from "./gen/taxond/v1/Model.js";
import type { PredictRequest } from "./gen/taxond/v1/PredictRequest.js";
import type { PredictResponse__Output } from "./gen/taxond/v1/PredictResponse.js";
import type { TrainRequest } from "./gen/taxond/v1/TrainRequest.js";
import type { UndoChangeResponse__Output } from "./gen/taxond/v1/UndoChangeResponse.js";

type Protos = DatasetProtos & PredictProtos & RegistryProtos & TaxonomyProtos & TrainingProtos;
type Callback<T> = (error: grpc.ServiceError | null, value?: T) => void;

/** The repository: the protos and the service config are read from there. */
const TREE = process.env["TAXOND_TREE"] ?? resolve(import.meta.dirname, "../../../..");
const SERVICES = ["registry", "dataset", "training", "taxonomy", "predict"];
const EXAMPLES_A_MESSAGE = 1000;

export interface Options {
  /** TLS and the like; none by default. */
  credentials?: grpc.ChannelCredentials;
  /** Who calls, kept as the author of changes: 1 to 128 bytes of UTF-8. */
  user?: string;
}

/** A model by its id: `bank`, or `models/bank`. */
const modelName = (model: string) => (model.startsWith("models/") ? model : `models/${model}`);

export class Client {
  readonly #registry;
  readonly #dataset;
  readonly #training;
  readonly #taxonomy;
  readonly #predict;
  readonly #metadata = new grpc.Metadata();

  /** `address` is `host:port` or `unix:///path`. */
  constructor(address: string, options: Options = {}) {
    const protos = SERVICES.map((name) => `taxond/v1/${name}_service.proto`);
    const definition = loadSync(protos, {
      includeDirs: [join(TREE, "proto")],
      longs: Number,
      enums: String,
      defaults: true,
      oneofs: true,
    });
    const { v1 } = (grpc.loadPackageDefinition(definition) as unknown as Protos).taxond;
    const credentials = options.credentials ?? grpc.credentials.createInsecure();
    // All services share one connection, and the config says which calls are repeated where the daemon is away.
    const channel = new grpc.Channel(address, credentials, {
      "grpc.service_config": readFileSync(join(TREE, "deploy/grpc-service-config.json"), "utf8"),
    });
    const shared = { channelOverride: channel };
    this.#registry = new v1.RegistryService(address, credentials, shared);
    this.#dataset = new v1.DatasetService(address, credentials, shared);
    this.#training = new v1.TrainingService(address, credentials, shared);
    this.#taxonomy = new v1.TaxonomyService(address, credentials, shared);
    this.#predict = new v1.PredictService(address, credentials, shared);
    if (options.user) {
      // Metadata is ASCII; names in other scripts go as bytes.
      const plain = /^[ -~]*$/.test(options.user);
      if (plain) this.#metadata.set("taxond-user", options.user);
      else this.#metadata.set("taxond-user-bin", Buffer.from(options.user, "utf8"));
    }
  }

  close(): void {
    this.#registry.close();
  }

  async createModel(modelId: string): Promise<Model__Output> {
    const request = { modelId, requestId: randomUUID() };
    const { model } = await unary((done: Callback<{ model: Model__Output | null }>) =>
      this.#registry.createModel(request, this.#metadata, done),
    );
    return model!;
  }

  async deleteModel(model: string): Promise<void> {
    const request = { name: modelName(model), requestId: randomUUID() };
    await unary((done: Callback<unknown>) => this.#registry.deleteModel(request, this.#metadata, done));
  }

  /** Stores labelled texts, all of them or none. They are sent as they are read. */
  async addExamples(
    model: string,
    examples: Iterable<{ text: string; label: string }> | AsyncIterable<{ text: string; label: string }>,
  ): Promise<AddExamplesResponse__Output> {
    return unary(async (done: Callback<AddExamplesResponse__Output>) => {
      const call = this.#dataset.addExamples(this.#metadata, done);
      // A daemon that refuses ends the call: what comes after is not sent, and `done` is told why.
      let ended = false;
      call.on("status", () => (ended = true));
      const send = async (message: object) => {
        if (!ended && !call.write(message)) {
          await new Promise<void>((go) => call.once("drain", go).once("status", () => go()));
        }
      };
      try {
        await send({ model: modelName(model), requestId: randomUUID() });
        let batch: { text: string; label: string }[] = [];
        for await (const example of examples) {
          batch.push(example);
          if (batch.length === EXAMPLES_A_MESSAGE) await send({ examples: batch.splice(0) });
        }
        if (batch.length > 0) await send({ examples: batch });
        call.end();
      } catch (error) {
        call.cancel();
        throw error;
      }
    });
  }

  /** Trains, and yields what happens until the job ends. The job goes on where nobody listens. */
  train(model: string, options: Omit<TrainRequest, "model"> = {}): AsyncGenerator<JobEvent__Output> {
    const request = { requestId: randomUUID(), ...options, model: modelName(model) };
    return events(this.#training.train(request, this.#metadata));
  }

  /** Yields what happens to a job: what it has published so far, then what comes. */
  watch(job: string): AsyncGenerator<JobEvent__Output> {
    return events(this.#training.watchJob({ name: job }, this.#metadata));
  }

  async predict(
    model: string,
    texts: string[],
    options: Omit<PredictRequest, "model" | "texts"> = {},
  ): Promise<PredictResponse__Output> {
    const request = { ...options, model: modelName(model), texts };
    return unary((done: Callback<PredictResponse__Output>) =>
      this.#predict.predict(request, this.#metadata, done),
    );
  }

  /** Makes one class of several. When it returns the merged class answers; `job` of the result learns it, see `watch`. */
  async merge(
    model: string,
    classes: string[],
    into: string,
    options: Omit<MergeClassesRequest, "model" | "classes" | "into"> = {},
  ): Promise<ChangeApplied__Output> {
    const request = { requestId: randomUUID(), ...options, model: modelName(model), classes, into, detach: true };
    let applied: ChangeApplied__Output | undefined | null;
    for await (const message of answers(this.#taxonomy.mergeClasses(request, this.#metadata))) {
      applied ??= message.applied;
    }
    if (!applied) throw new Error("the daemon did not say that the change stands");
    return applied;
  }

  /** Undoes the latest change: classes and answers are what they were before it. */
  async undo(model: string, reason = ""): Promise<UndoChangeResponse__Output> {
    const request = { model: modelName(model), reason, requestId: randomUUID() };
    return unary((done: Callback<UndoChangeResponse__Output>) =>
      this.#taxonomy.undoChange(request, this.#metadata, done),
    );
  }
}

/** Makes a promise of a call that takes a callback. */
function unary<T>(call: (done: Callback<T>) => unknown): Promise<T> {
  return new Promise((fulfil, reject) => {
    const done: Callback<T> = (error, value) => (error ? reject(failure(error)) : fulfil(value as T));
    Promise.resolve(call(done)).catch(reject);
  });
}

/** The messages of a stream; ends the call where the reader stops. */
async function* answers<T>(call: grpc.ClientReadableStream<T>): AsyncGenerator<T> {
  try {
    for await (const message of call) yield message as T;
  } catch (error) {
    throw failure(error as grpc.ServiceError);
  } finally {
    call.cancel();
  }
}

async function* events(
  call: grpc.ClientReadableStream<{ event: JobEvent__Output | null }>,
): AsyncGenerator<JobEvent__Output> {
  for await (const { event } of answers(call)) if (event) yield event;
}
