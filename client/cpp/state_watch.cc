#include "client/cpp/state_watch.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "client/cpp/client_impl.h"
#include "client/cpp/convert.h"
#include "client/cpp/wire_status.h"
#include "grpcpp/alarm.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/sync_stream.h"

namespace normd::client {

class StateWatch::Impl {
 public:
  explicit Impl(std::shared_ptr<grpc::Channel> channel)
      : stub_(v1::StateService::NewStub(std::move(channel))) {}

  ~Impl() {
    Cancel();
    v1::WatchStatesResponse event;
    while (!finished_ && reader_->Read(&event)) {
    }
    if (!finished_) reader_->Finish();
  }

  // Waits until the watch stands or `timeout` is over.
  absl::Status Open(absl::string_view prefix, absl::Duration timeout) {
    v1::WatchStatesRequest request;
    request.set_prefix(std::string(prefix));
    // The alarm ends the wait alone: a deadline of the call would end the watch as well.
    auto opening = std::make_shared<Opening>();
    opening->context = &context_;
    grpc::Alarm alarm;
    alarm.Set(absl::ToChronoTime(absl::Now() + timeout), [opening](bool fired) {
      absl::MutexLock lock(&opening->mutex);
      if (!fired || opening->context == nullptr) return;
      opening->timed_out = true;
      opening->context->TryCancel();
    });
    reader_ = stub_->WatchStates(&context_, request);
    reader_->WaitForInitialMetadata();
    bool timed_out = false;
    {
      absl::MutexLock lock(&opening->mutex);
      opening->context = nullptr;
      timed_out = opening->timed_out;
    }
    if (timed_out) {
      Finish();
      return absl::DeadlineExceededError(
          absl::StrCat("the watch did not begin within ", absl::FormatDuration(timeout)));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<StateEvent>> Next() {
    v1::WatchStatesResponse event;
    if (!finished_ && reader_->Read(&event)) return FromWire(event);
    Finish();
    absl::MutexLock lock(&mutex_);
    if (cancelled_) return std::nullopt;
    return end_;
  }

  void Cancel() {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    context_.TryCancel();
  }

 private:
  struct Opening {
    absl::Mutex mutex;
    grpc::ClientContext* context ABSL_GUARDED_BY(mutex) = nullptr;
    bool timed_out ABSL_GUARDED_BY(mutex) = false;
  };

  void Finish() {
    if (finished_) return;
    finished_ = true;
    end_ = FromGrpc(reader_->Finish());
    if (end_.ok()) end_ = absl::UnavailableError("the server ended the watch");
  }

  const std::unique_ptr<v1::StateService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchStatesResponse>> reader_;
  // Used by the thread in Next() alone.
  bool finished_ = false;
  absl::Status end_;

  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

StateWatch::StateWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StateWatch::~StateWatch() = default;

absl::StatusOr<std::optional<StateEvent>> StateWatch::Next() { return impl_->Next(); }
void StateWatch::Cancel() { impl_->Cancel(); }

absl::StatusOr<std::unique_ptr<StateWatch>> Client::WatchStates(absl::string_view prefix) {
  AwaitReconnection(*impl_->channel);
  auto watch = std::make_unique<StateWatch::Impl>(impl_->channel);
  absl::Status status = watch->Open(prefix, impl_->options.call_timeout);
  if (!status.ok()) return status;
  return std::unique_ptr<StateWatch>(new StateWatch(std::move(watch)));
}

}  // namespace normd::client
