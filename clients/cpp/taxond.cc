#include "taxond.h"

#include <algorithm>
#include <random>

namespace taxond {
namespace {

constexpr size_t kExamplesAMessage = 1000;

void Check(const grpc::Status& status) {
  if (!status.ok()) throw Error(status);
}

// Reads the events of a job from a stream to its end.
template <typename Response>
pb::Job Follow(grpc::ClientReader<Response>& stream, const Client::Listener& listener) {
  pb::Job job;
  Response response;
  while (stream.Read(&response)) {
    if (listener) listener(response.event());
    if (response.event().has_finished()) job = response.event().finished().job();
  }
  Check(stream.Finish());
  if (job.state() != pb::JOB_STATE_SUCCEEDED) throw JobError(job);
  return job;
}

// Says who calls, in the context of a call.
void SayUser(grpc::ClientContext& context, const std::string& user) {
  if (user.empty()) return;
  const bool plain = std::all_of(user.begin(), user.end(), [](char c) { return c >= ' ' && c <= '~'; });
  // Metadata is ASCII; names in other scripts go as bytes.
  context.AddMetadata(plain ? "taxond-user" : "taxond-user-bin", user);
}

std::string Describe(const pb::Job& job) {
  return job.name() + " " + pb::JobState_Name(job.state()) + ": " + job.message();
}

}  // namespace

Error::Error(const grpc::Status& status) : std::runtime_error(status.error_message()), code_(status.error_code()) {}

JobError::JobError(pb::Job job) : std::runtime_error(Describe(job)), job_(std::move(job)) {}

Client::Client(const std::string& address, const std::string& service_config,
               std::shared_ptr<grpc::ChannelCredentials> credentials, std::string user)
    : user_(std::move(user)) {
  grpc::ChannelArguments arguments;
  // Else gRPC sends the path of the socket, percent-encoded, which the daemon's HTTP/2 takes for no host at all.
  if (address.rfind("unix:", 0) == 0) arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  if (!service_config.empty()) arguments.SetServiceConfigJSON(service_config);
  auto channel = grpc::CreateCustomChannel(address, credentials, arguments);
  registry_ = pb::RegistryService::NewStub(channel);
  dataset_ = pb::DatasetService::NewStub(channel);
  training_ = pb::TrainingService::NewStub(channel);
  taxonomy_ = pb::TaxonomyService::NewStub(channel);
  predict_ = pb::PredictService::NewStub(channel);
}

pb::Model Client::CreateModel(const std::string& model_id) {
  pb::CreateModelRequest request;
  request.set_model_id(model_id);
  request.set_request_id(NewRequestId());
  grpc::ClientContext context;
  SayUser(context, user_);
  pb::CreateModelResponse response;
  Check(registry_->CreateModel(&context, request, &response));
  return response.model();
}

void Client::DeleteModel(const std::string& model) {
  pb::DeleteModelRequest request;
  request.set_name(model);
  request.set_request_id(NewRequestId());
  grpc::ClientContext context;
  SayUser(context, user_);
  pb::DeleteModelResponse response;
  Check(registry_->DeleteModel(&context, request, &response));
}

pb::AddExamplesResponse Client::AddExamples(const std::string& model, const std::vector<Example>& examples) {
  grpc::ClientContext context;
  SayUser(context, user_);
  pb::AddExamplesResponse response;
  auto stream = dataset_->AddExamples(&context, &response);
  pb::AddExamplesRequest request;
  request.set_model(model);
  request.set_request_id(NewRequestId());
  bool open = stream->Write(request);
  // A write fails where the daemon has ended the call; Finish says why.
  for (size_t at = 0; open && at < examples.size(); at += kExamplesAMessage) {
    request.Clear();
    for (size_t i = at; i < std::min(at + kExamplesAMessage, examples.size()); ++i) {
      auto* example = request.add_examples();
      example->set_text(examples[i].first);
      example->set_label(examples[i].second);
    }
    open = stream->Write(request);
  }
  stream->WritesDone();
  Check(stream->Finish());
  return response;
}

pb::Job Client::Train(pb::TrainRequest request, const Listener& listener) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  grpc::ClientContext context;
  SayUser(context, user_);
  return Follow(*training_->Train(&context, request), listener);
}

pb::Job Client::Watch(const std::string& job, const Listener& listener) {
  pb::WatchJobRequest request;
  request.set_name(job);
  grpc::ClientContext context;
  SayUser(context, user_);
  return Follow(*training_->WatchJob(&context, request), listener);
}

pb::PredictResponse Client::Predict(const pb::PredictRequest& request) {
  grpc::ClientContext context;
  SayUser(context, user_);
  pb::PredictResponse response;
  Check(predict_->Predict(&context, request, &response));
  return response;
}

pb::ChangeApplied Client::Merge(pb::MergeClassesRequest request) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  request.set_detach(true);
  grpc::ClientContext context;
  SayUser(context, user_);
  auto stream = taxonomy_->MergeClasses(&context, request);
  pb::ChangeApplied applied;
  pb::MergeClassesResponse response;
  while (stream->Read(&response)) {
    if (response.has_applied()) applied = response.applied();
  }
  Check(stream->Finish());
  return applied;
}

pb::UndoChangeResponse Client::Undo(const std::string& model, const std::string& reason) {
  pb::UndoChangeRequest request;
  request.set_model(model);
  request.set_reason(reason);
  request.set_request_id(NewRequestId());
  grpc::ClientContext context;
  SayUser(context, user_);
  pb::UndoChangeResponse response;
  Check(taxonomy_->UndoChange(&context, request, &response));
  return response;
}

std::string NewRequestId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 32; ++i) id += "0123456789abcdef"[random() % 16];
  return id;
}

}  // namespace taxond
