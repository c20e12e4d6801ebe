// The main job against a running daemon: create, add, train, predict, merge, undo.
//
//   tour FILE.tsv [ADDRESS [SERVICE_CONFIG]]
//
// The file has the columns text and label below a header.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>

#include "taxond.h"

namespace {

namespace pb = taxond::pb;

const std::string kModel = "models/cpp-tour";

std::vector<taxond::Client::Example> ReadTsv(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<taxond::Client::Example> examples;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    const auto tab = line.find('\t');
    if (tab == std::string::npos) throw std::runtime_error(path + ": a row has no tab");
    examples.emplace_back(line.substr(0, tab), line.substr(tab + 1));
  }
  return examples;
}

void Ask(taxond::Client& client) {
  pb::PredictRequest request;
  request.set_model(kModel);
  request.add_texts("我想取三万元现金");
  request.add_texts("please block my lost card");
  const auto answer = client.Predict(request);
  for (int i = 0; i < answer.predictions_size(); ++i) {
    const auto& best = answer.predictions(i).classes(0);
    std::printf("%s %s: %s %.4f\n", answer.version().c_str(), request.texts(i).c_str(), best.name().c_str(),
                best.probability());
  }
}

void Listen(const pb::JobEvent& event) {
  if (event.has_progress()) {
    const auto& progress = event.progress();
    std::fprintf(stderr, "%s %u/%u loss %.3f\n", progress.stage().c_str(), progress.epoch(), progress.epochs(),
                 progress.loss());
  } else if (event.has_published()) {
    const auto& version = event.published().version();
    std::printf("%s: %s\n", version.name().c_str(), version.report().gate().c_str());
  }
}

void Tour(const std::string& file, const std::string& address, const std::string& service_config) {
  taxond::Client client(address, service_config);
  client.CreateModel("cpp-tour");
  std::printf("%lu examples\n", client.AddExamples(kModel, ReadTsv(file)).added());

  pb::TrainRequest train;
  train.set_model(kModel);
  train.set_seed(1);
  std::printf("%s\n", pb::JobState_Name(client.Train(train, Listen).state()).c_str());
  Ask(client);

  pb::MergeClassesRequest merge;
  merge.set_model(kModel);
  merge.add_classes("取款两万以下");
  merge.add_classes("取款两万以上");
  merge.set_into("取款");
  const auto applied = client.Merge(merge);
  std::printf("%s, after %.1f ms\n", applied.manifest().description().c_str(), applied.seconds() * 1000);
  Ask(client);
  client.Watch(applied.job(), Listen);
  client.Undo(kModel);
  Ask(client);
  client.DeleteModel(kModel);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: tour FILE.tsv [ADDRESS [SERVICE_CONFIG]]\n");
    return 2;
  }
  std::string service_config;
  if (count > 3) {
    std::ifstream file(arguments[3]);
    service_config.assign(std::istreambuf_iterator<char>(file), {});
  }
  try {
    Tour(arguments[1], count > 2 ? arguments[2] : "127.0.0.1:50061", service_config);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
