// A client of taxond: a channel and the stubs on it, and the calls that are streams as functions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "taxond/v1/dataset_service.grpc.pb.h"
#include "taxond/v1/predict_service.grpc.pb.h"
#include "taxond/v1/registry_service.grpc.pb.h"
#include "taxond/v1/taxonomy_service.grpc.pb.h"
#include "taxond/v1/training_service.grpc.pb.h"

namespace taxond {

namespace pb = ::taxond::v1;

// A call that failed.
class Error : public std::runtime_error {
 public:
  explicit Error(const grpc::Status& status);

  grpc::StatusCode code() const { return code_; }

 private:
  grpc::StatusCode code_;
};

// A job that ended otherwise than by success.
class JobError : public std::runtime_error {
 public:
  explicit JobError(pb::Job job);

  const pb::Job& job() const { return job_; }

 private:
  pb::Job job_;
};

// A connection to a daemon. Every function throws Error where the daemon refuses or cannot be reached. A model is named
// `models/bank`. May be used by several threads at once.
class Client {
 public:
  using Example = std::pair<std::string, std::string>;  // text, label
  using Listener = std::function<void(const pb::JobEvent&)>;

  // `address` is host:port or unix:///path. `service_config` is the text of deploy/grpc-service-config.json, by which gRPC
  // repeats calls where the daemon is away; none are repeated if it is empty. `user` is who calls, kept as the author of
  // changes: 1 to 128 bytes of UTF-8, or empty.
  explicit Client(const std::string& address, const std::string& service_config = "",
                  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials(),
                  std::string user = "");

  pb::Model CreateModel(const std::string& model_id);
  void DeleteModel(const std::string& model);

  // Stores labelled texts, all of them or none.
  pb::AddExamplesResponse AddExamples(const std::string& model, const std::vector<Example>& examples);

  // Trains, calls the listener with what happens, and returns the job at its end; throws JobError if it did not succeed.
  // The job goes on in the daemon where the connection breaks.
  pb::Job Train(pb::TrainRequest request, const Listener& listener = {});
  // Follows a job as Train does.
  pb::Job Watch(const std::string& job, const Listener& listener = {});

  pb::PredictResponse Predict(const pb::PredictRequest& request);

  // Makes one class of several. When it returns the merged class answers; the job of the result, if there is one, learns it.
  pb::ChangeApplied Merge(pb::MergeClassesRequest request);
  // Undoes the latest change.
  pb::UndoChangeResponse Undo(const std::string& model, const std::string& reason = "");

 private:
  std::unique_ptr<pb::RegistryService::Stub> registry_;
  std::unique_ptr<pb::DatasetService::Stub> dataset_;
  std::unique_ptr<pb::TrainingService::Stub> training_;
  std::unique_ptr<pb::TaxonomyService::Stub> taxonomy_;
  std::unique_ptr<pb::PredictService::Stub> predict_;
  std::string user_;
};

// A random request id, which makes a call safe to repeat: the daemon answers a repeat with the first answer.
std::string NewRequestId();

}  // namespace taxond
