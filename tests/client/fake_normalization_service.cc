#include "tests/client/fake_normalization_service.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

namespace normd::client {
namespace {

google::rpc::Status MakeWireStatus(int code, v1::ErrorReason reason, const std::string& message) {
  google::rpc::ErrorInfo info;
  info.set_reason(v1::ErrorReason_Name(reason));
  info.set_domain("normd");
  info.mutable_metadata()->insert({"index", "7"});
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  status.add_details()->PackFrom(info);
  return status;
}

v1::Durability DurabilityOf(const v1::TrainRequest& request) { return request.durability(); }
v1::Durability DurabilityOf(const v1::BackwardRequest& request) { return request.durability(); }
v1::Durability DurabilityOf(const v1::NormalizeRequest&) { return v1::DURABILITY_UNSPECIFIED; }

}  // namespace

class FakeNormalizationService::Stream {
 public:
  virtual ~Stream() = default;
  // Answers the next message when it may; never with the service's mutex held.
  virtual void Pump() = 0;
  // The stream ends with `status` at its next Pump().
  virtual void End(const grpc::Status& status) = 0;
};

template <typename Request, typename Response>
class FakeNormalizationService::Reactor final : public grpc::ServerBidiReactor<Request, Response>,
                                                public Stream {
 public:
  explicit Reactor(FakeNormalizationService* service) : service_(service) {}

  void Begin(std::shared_ptr<Stream> self) {
    self_ = std::move(self);
    {
      absl::MutexLock lock(&service_->mutex_);
      stream_ = ++service_->streams_;
      service_->open_.insert(self_);
      if (!service_->refusal_.ok()) End(service_->refusal_);
    }
    this->StartRead(&request_);
    Pump();
  }

  void End(const grpc::Status& status) override { end_ = status; }

  void Pump() override {
    for (;;) {
      std::optional<grpc::Status> end;
      {
        absl::MutexLock lock(&service_->mutex_);
        if (writing_ || finished_) return;
        if (!end_.has_value() && !service_->hold_answers_ && !incoming_.empty()) Answer();
        if (!end_.has_value() && read_all_ && incoming_.empty()) end_ = grpc::Status::OK;
        finished_ = end_.has_value() && !writing_;
        if (finished_) end = end_;
        if (!finished_ && !writing_ && (service_->hold_answers_ || incoming_.empty())) return;
      }
      if (end.has_value()) {
        this->Finish(*end);
        service_->PumpAll();
        return;
      }
      if (writing_) {
        this->StartWrite(&response_);
        return;
      }
    }
  }

  void OnReadDone(bool ok) override {
    {
      absl::MutexLock lock(&service_->mutex_);
      if (ok) {
        ++service_->messages_;
        const Message message{request_.state(), request_.sequence(), DurabilityOf(request_),
                              service_->messages_, stream_};
        incoming_.emplace_back(message, request_);
        service_->outstanding_max_ =
            std::max(service_->outstanding_max_, static_cast<int64_t>(incoming_.size()));
      } else {
        read_all_ = true;
      }
    }
    if (ok) this->StartRead(&request_);
    Pump();
  }

  void OnWriteDone(bool) override {
    {
      absl::MutexLock lock(&service_->mutex_);
      writing_ = false;
    }
    Pump();
  }

  void OnDone() override {
    std::shared_ptr<Stream> self = std::move(self_);
    absl::MutexLock lock(&service_->mutex_);
    service_->open_.erase(self);
  }

 private:
  // With the service's mutex held.
  void Answer() {
    auto [message, request] = std::move(incoming_.front());
    incoming_.pop_front();
    const grpc::Status away(grpc::StatusCode::UNAVAILABLE, "the fake server went away");
    const Action action = service_->decide_ ? service_->decide_(message) : Action::kAnswer;
    response_ = Response();
    response_.set_sequence(message.sequence);
    switch (action) {
      case Action::kDropBefore:
        end_ = away;
        return;
      case Action::kCrashBefore:
        service_->Crash();
        return;
      case Action::kRefuse:
        *response_.mutable_error() =
            MakeWireStatus(grpc::StatusCode::INVALID_ARGUMENT, v1::NON_FINITE_VALUE,
                           absl::StrCat("state '", message.state, "': value 7 is nan"));
        writing_ = true;
        return;
      default:
        break;
    }
    service_->Apply(request, response_);
    if (action == Action::kDropAfter) end_ = away;
    if (action == Action::kCrashAfter) service_->Crash();
    if (action == Action::kMisnumber) response_.set_sequence(message.sequence + 1000);
    writing_ = action == Action::kAnswer || action == Action::kMisnumber;
  }

  FakeNormalizationService* const service_;
  std::shared_ptr<Stream> self_;
  Request request_;
  Response response_;
  int64_t stream_ = 0;

  // Guarded by the service's mutex.
  std::deque<std::pair<Message, Request>> incoming_;
  std::optional<grpc::Status> end_;
  bool read_all_ = false;
  bool writing_ = false;
  bool finished_ = false;
};

class FakeNormalizationService::Service final : public v1::NormalizationService::CallbackService {
 public:
  explicit Service(FakeNormalizationService* fake) : fake_(fake) {}

  grpc::ServerBidiReactor<v1::TrainRequest, v1::TrainResponse>* StreamTrain(
      grpc::CallbackServerContext*) override {
    return Begin<v1::TrainRequest, v1::TrainResponse>();
  }
  grpc::ServerBidiReactor<v1::NormalizeRequest, v1::NormalizeResponse>* StreamNormalize(
      grpc::CallbackServerContext*) override {
    return Begin<v1::NormalizeRequest, v1::NormalizeResponse>();
  }
  grpc::ServerBidiReactor<v1::BackwardRequest, v1::BackwardResponse>* StreamBackward(
      grpc::CallbackServerContext*) override {
    return Begin<v1::BackwardRequest, v1::BackwardResponse>();
  }

 private:
  template <typename Request, typename Response>
  Reactor<Request, Response>* Begin() {
    auto reactor = std::make_shared<Reactor<Request, Response>>(fake_);
    reactor->Begin(reactor);
    return reactor.get();
  }

  FakeNormalizationService* const fake_;
};

FakeNormalizationService::FakeNormalizationService() : service_(std::make_unique<Service>(this)) {
  static std::atomic<int> sockets{0};
  address_ = absl::StrCat("unix:/tmp/normd_fake_", getpid(), "_", sockets++, ".sock");
  Start();
}

FakeNormalizationService::~FakeNormalizationService() { Stop(); }

void FakeNormalizationService::Start() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
}

void FakeNormalizationService::Stop() {
  if (server_ == nullptr) return;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& stream : open_) {
      stream->End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the fake server stops"));
    }
  }
  PumpAll();
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  server_->Wait();
  server_.reset();
}

void FakeNormalizationService::RefuseStreams(grpc::Status status) {
  absl::MutexLock lock(&mutex_);
  refusal_ = std::move(status);
}

void FakeNormalizationService::HoldAnswers(bool hold) {
  {
    absl::MutexLock lock(&mutex_);
    hold_answers_ = hold;
  }
  PumpAll();
}

bool FakeNormalizationService::WaitForMessages(int64_t count) const {
  absl::MutexLock lock(&mutex_);
  const auto came = [this, count]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return messages_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&came), absl::Seconds(10));
}

int64_t FakeNormalizationService::messages() const {
  absl::MutexLock lock(&mutex_);
  return messages_;
}

int64_t FakeNormalizationService::streams() const {
  absl::MutexLock lock(&mutex_);
  return streams_;
}

int64_t FakeNormalizationService::outstanding_max() const {
  absl::MutexLock lock(&mutex_);
  return outstanding_max_;
}

int64_t FakeNormalizationService::duplicates() const {
  absl::MutexLock lock(&mutex_);
  return duplicates_;
}

std::vector<int64_t> FakeNormalizationService::Applied(const std::string& state) const {
  absl::MutexLock lock(&mutex_);
  const auto log = memory_.find(state);
  return log == memory_.end() ? std::vector<int64_t>() : log->second.applied;
}

std::vector<int64_t> FakeNormalizationService::Durable(const std::string& state) const {
  absl::MutexLock lock(&mutex_);
  const auto log = disk_.find(state);
  return log == disk_.end() ? std::vector<int64_t>() : log->second.applied;
}

grpc::Status FakeNormalizationService::MakeStatus(grpc::StatusCode code, v1::ErrorReason reason,
                                                  const std::string& message) {
  return grpc::Status(code, message, MakeWireStatus(code, reason, message).SerializeAsString());
}

template <typename Request, typename Response>
FakeNormalizationService::StateLog& FakeNormalizationService::ApplyUpdate(const Request& request,
                                                                          int64_t number,
                                                                          Response& response) {
  StateLog& log = memory_[request.state()];
  int64_t& decided = log.decided[request.producer_id()];
  if (request.sequence() <= decided) {
    response.set_disposition(v1::DUPLICATE);
    ++duplicates_;
  } else {
    response.set_disposition(v1::APPLIED);
    decided = request.sequence();
    log.applied.push_back(number);
  }
  response.set_revision(static_cast<int64_t>(log.applied.size()) + 1);
  if (request.durability() != v1::RELAXED) disk_[request.state()] = log;
  response.set_durable_sequence(disk_[request.state()].decided[request.producer_id()]);
  return log;
}

void FakeNormalizationService::Apply(const v1::TrainRequest& request, v1::TrainResponse& response) {
  const StateLog& log = ApplyUpdate(request, request.moments().count(), response);
  response.set_num_batches_tracked(static_cast<int64_t>(log.applied.size()));
}

void FakeNormalizationService::Apply(const v1::BackwardRequest& request,
                                     v1::BackwardResponse& response) {
  if (request.apply()) {
    float number = 0;
    std::memcpy(&number, request.grad_output().data().data(), sizeof(number));
    const StateLog& log = ApplyUpdate(request, static_cast<int64_t>(number), response);
    response.set_optimizer_step(static_cast<int64_t>(log.applied.size()));
    if (response.disposition() == v1::DUPLICATE) return;
  }
  if (!request.omit_grad_input()) *response.mutable_grad_input() = request.grad_output();
  *response.mutable_grad_weight() = request.grad_output();
}

void FakeNormalizationService::Apply(const v1::NormalizeRequest& request,
                                     v1::NormalizeResponse& response) {
  *response.mutable_output() = request.input();
  response.set_revision(1);
}

void FakeNormalizationService::Crash() {
  memory_ = disk_;
  for (const auto& stream : open_) {
    stream->End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the fake server crashed"));
  }
}

void FakeNormalizationService::PumpAll() {
  std::set<std::shared_ptr<Stream>> open;
  {
    absl::MutexLock lock(&mutex_);
    open = open_;
  }
  for (const auto& stream : open) stream->Pump();
}

}  // namespace normd::client
