#include "server/watch_stream.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/error.h"
#include "core/base/names.h"
#include "server/grpc_status.h"

namespace normd {
namespace {

class WatchStream final : public grpc::ServerWriteReactor<v1::WatchStatesResponse>,
                          public LongCall,
                          public std::enable_shared_from_this<WatchStream> {
 public:
  WatchStream(WatchHub* hub, int64_t pending_states_max, CallSet* calls)
      : hub_(hub), calls_(calls), pending_(pending_states_max, hub->memory()) {}

  void Start(const absl::Status& admitted, absl::string_view prefix) {
    // gRPC's hold; OnDone lets it go.
    self_ = shared_from_this();
    absl::Status status = admitted;
    if (status.ok()) status = CheckStateNamePrefix(prefix);
    if (status.ok()) status = calls_->Add(self_);
    if (status.ok()) {
      subscription_ = hub_->Subscribe(prefix, [this](const StateEvent* event) { OnEvent(event); });
    }
    absl::MutexLock lock(&mutex_);
    if (!status.ok()) {
      FinishOnce(ToGrpcStatus(status));
    } else if (!finished_) {
      StartSendInitialMetadata();
    }
  }

  void Drain() override {
    absl::MutexLock lock(&mutex_);
    FinishOnce(ToGrpcStatus(MakeError(Reason::kShuttingDown, "the server is shutting down")));
  }

  void OnSendInitialMetadataDone(bool /*ok*/) override {
    absl::MutexLock lock(&mutex_);
    greeted_ = true;
    Advance();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) FinishOnce(grpc::Status::CANCELLED);
    Advance();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    hub_->Unsubscribe(subscription_);
    calls_->Remove(this);
    self_.reset();
  }

 private:
  void OnEvent(const StateEvent* event) {
    absl::MutexLock lock(&mutex_);
    if (event == nullptr) {
      pending_.MarkMissed();
    } else {
      pending_.Put(*event);
    }
    Advance();
  }

  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!greeted_ || writing_ || finished_) return;
    StateEvent event;
    bool missed = false;
    if (!pending_.Take(event, &missed)) return;
    response_.Clear();
    if (missed) {
      response_.set_event(v1::WatchStatesResponse::MISSED);
    } else {
      response_.set_event(event.deleted ? v1::WatchStatesResponse::DELETED
                                        : v1::WatchStatesResponse::CHANGED);
      response_.set_name(event.name);
      response_.set_revision(event.revision);
      response_.set_num_batches_tracked(event.num_batches_tracked);
      response_.set_etag(event.etag);
    }
    writing_ = true;
    StartWrite(&response_);
  }

  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    Finish(status);
  }

  // Constant after Start.
  WatchHub* const hub_;
  CallSet* const calls_;
  std::shared_ptr<WatchStream> self_;
  int64_t subscription_ = 0;

  absl::Mutex mutex_;
  PendingEvents pending_ ABSL_GUARDED_BY(mutex_);
  v1::WatchStatesResponse response_;  // gRPC's while writing_
  bool greeted_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchStatesResponse>* StartWatchStream(const absl::Status& admitted,
                                                                    WatchHub* hub,
                                                                    absl::string_view prefix,
                                                                    int64_t pending_states_max,
                                                                    CallSet* calls) {
  const auto stream = std::make_shared<WatchStream>(hub, pending_states_max, calls);
  stream->Start(admitted, prefix);
  return stream.get();
}

}  // namespace normd
