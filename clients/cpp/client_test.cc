// The client against a live daemon, whose address is the only argument; and against one that refuses, made here.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>

#include "taxond.h"

namespace {

namespace pb = taxond::pb;

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
      std::exit(1);                                                          \
    }                                                                        \
  } while (false)

std::string g_service_config;

std::vector<taxond::Client::Example> Examples() {
  std::vector<taxond::Client::Example> examples;
  for (int i = 0; i < 60; ++i) {
    const auto n = std::to_string(i);
    examples.emplace_back("please block my card number " + n, "card");
    examples.emplace_back("what is my balance on account " + n, "balance");
    examples.emplace_back("take out " + n + " in cash", "withdraw small");
    examples.emplace_back("take out " + n + " thousand in cash", "withdraw large");
  }
  return examples;
}

double Probability(taxond::Client& client, const std::string& model, const std::string& name) {
  pb::PredictRequest request;
  request.set_model(model);
  request.add_texts("take out thirty thousand in cash");
  request.set_top_k(10);
  const auto answer = client.Predict(request);
  for (const auto& scored : answer.predictions(0).classes()) {
    if (scored.name() == name) return scored.probability();
  }
  return -1;
}

pb::MergeClassesRequest Merge(const std::string& model) {
  pb::MergeClassesRequest merge;
  merge.set_model(model);
  merge.add_classes("withdraw small");
  merge.add_classes("withdraw large");
  merge.set_into("withdraw");
  return merge;
}

void CreateAddTrainPredictMergeUndo(taxond::Client& client) {
  const auto model = client.CreateModel("session").name();
  const auto examples = Examples();
  CHECK(client.AddExamples(model, examples).added() == examples.size());
  pb::TrainRequest train;
  train.set_model(model);
  int progress = 0;
  client.Train(train, [&](const pb::JobEvent& event) { progress += event.has_progress(); });
  CHECK(progress > 0);

  const double small = Probability(client, model, "withdraw small"), large = Probability(client, model, "withdraw large");
  CHECK(small >= 0 && large > 0.5);
  auto merge = Merge(model);
  merge.set_learn(pb::LEARN_NONE);
  const auto merged = client.Merge(merge);
  CHECK(merged.job().empty() && merged.manifest().author() == "张伟");
  CHECK(std::abs(Probability(client, model, "withdraw") - small - large) < 1e-6);
  client.Undo(model);
  CHECK(Probability(client, model, "withdraw large") == large);

  const auto applied = client.Merge(Merge(model));
  CHECK(client.Watch(applied.job()).name() == applied.job());
  client.DeleteModel(model);
}

void AnErrorSaysWhatIsWrong(taxond::Client& client) {
  pb::PredictRequest request;
  request.set_model("models/nowhere");
  request.add_texts("hello");
  try {
    client.Predict(request);
    CHECK(false);
  } catch (const taxond::Error& error) {
    CHECK(error.code() == grpc::StatusCode::NOT_FOUND);
    CHECK(std::string(error.what()).find("models/nowhere") != std::string::npos);
  }
  try {
    client.AddExamples("models/nowhere", std::vector<taxond::Client::Example>(100'000, {"text", "a"}));
    CHECK(false);
  } catch (const taxond::Error& error) {
    CHECK(error.code() == grpc::StatusCode::NOT_FOUND);
  }
}

// Cannot take the first two calls.
class Refusing final : public pb::TaxonomyService::Service {
 public:
  grpc::Status UndoChange(grpc::ServerContext*, const pb::UndoChangeRequest* request, pb::UndoChangeResponse*) override {
    ids.insert(request->request_id());
    return ++calls < 3 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now") : grpc::Status::OK;
  }

  int calls = 0;
  std::set<std::string> ids;
};

void ACallIsRepeatedUnderTheSameRequestId() {
  Refusing daemon;
  int port = 0;
  auto server = grpc::ServerBuilder()
                    .AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port)
                    .RegisterService(&daemon)
                    .BuildAndStart();
  CHECK(server != nullptr);
  taxond::Client client("127.0.0.1:" + std::to_string(port), g_service_config);
  client.Undo("models/bank");
  CHECK(daemon.calls == 3 && daemon.ids.size() == 1);
  server->Shutdown();
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3);
  std::ifstream file(arguments[2]);
  g_service_config.assign(std::istreambuf_iterator<char>(file), {});
  CHECK(!g_service_config.empty());
  taxond::Client client(arguments[1], g_service_config, grpc::InsecureChannelCredentials(), "张伟");
  CreateAddTrainPredictMergeUndo(client);
  AnErrorSaysWhatIsWrong(client);
  ACallIsRepeatedUnderTheSameRequestId();
  std::puts("3 tests passed");
  return 0;
}
