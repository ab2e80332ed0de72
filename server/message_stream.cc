#include <grpcpp/alarm.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "server/grpc_status.h"
#include "server/message_method.h"
#include "server/serving_queue.h"

namespace normd {
namespace {

// Larger responses are sent at once.
constexpr int64_t kDeferredBytesMax = 16 * kKiB;

// Messages that are read before the first of them is handled, when they come at once: so many, or
// as few as make up so many bytes.
constexpr size_t kMessagesAheadMax = 16;
constexpr int64_t kBytesAheadMax = 64 * kKiB;

class MessageStream final : public LongCall,
                            public DeferredWork,
                            public std::enable_shared_from_this<MessageStream> {
 public:
  MessageStream(const StreamMethod& method, ServingQueue* queue)
      : method_(method), queue_(queue), memory_(method.memory, MemoryUse::kStreams) {}

  void Request() {
    // gRPC's hold, until the stream has finished and nothing of it is on the queue.
    self_ = shared_from_this();
    method_.request(&context_, &stream_, queue_.queue(), &on_request_);
  }

  void Drain() override {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    Advance();
  }

  void RunDeferred() override {
    bool handles = false;
    {
      absl::MutexLock lock(&mutex_);
      handles = std::exchange(defers_handling_, false);
      if (std::exchange(defers_write_, false)) Advance(/*defers=*/false);
    }
    if (handles) HandleNext();
  }

 private:
  static constexpr int64_t kNone = -1;  // no message has this id

  // A request in hand: its response once it is there, in the order of the requests.
  struct Slot {
    bool ready = false;
    absl::Status end;  // not OK: end the stream here instead
    grpc::ByteBuffer response;
    int64_t bytes = 0;
  };

  class Call final : public MessageCall {
   public:
    Call(std::shared_ptr<MessageStream> stream, int64_t id) : stream_(std::move(stream)), id_(id) {}

    void Accepted() override { stream_->OnAccepted(id_); }
    void Done(const absl::Status& status, grpc::ByteBuffer response) override {
      stream_->OnAnswer(id_, status, response);
    }

   private:
    const std::shared_ptr<MessageStream> stream_;
    const int64_t id_;
  };

  // An operation of the stream has ended: the lock and, when no other is on its way and none can
  // follow, the end of gRPC's hold.
  class ABSL_SCOPED_LOCKABLE Event {
   public:
    explicit Event(MessageStream* stream) ABSL_EXCLUSIVE_LOCK_FUNCTION(stream->mutex_)
        : stream_(stream) {
      stream_->mutex_.Lock();
    }
    ~Event() ABSL_UNLOCK_FUNCTION() {
      const bool ends = stream_->finished_ && !stream_->finishing_ && !stream_->reading_ &&
                        !stream_->writing_ && !stream_->awaits_turn_;
      if (ends) {
        stream_->slots_.clear();
        if (!stream_->handling_) stream_->next_.clear();
        stream_->memory_.Resize(0);
      }
      stream_->mutex_.Unlock();
      if (!ends) return;
      stream_->method_.streams->Remove(stream_);
      stream_->self_.reset();
    }

    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

   private:
    MessageStream* const stream_;
  };

  void OnRequest(bool ok) {
    if (!ok) {
      self_.reset();
      return;
    }
    ServeStreams(method_, queue_.serving_queue());
    cpu_at_begin_ = CpuTime(CLOCK_PROCESS_CPUTIME_ID);
    const absl::Status admitted = method_.streams->Add(self_);
    absl::MutexLock lock(&mutex_);
    if (!admitted.ok()) {
      FinishOnce(ToGrpcStatus(admitted));
    } else {
      Advance();
    }
  }

  void OnRead(bool ok) {
    bool handles = false;
    {
      Event event(this);
      reading_ = false;
      if (!ok) half_closed_ = true;
      // A message that comes while draining is not acknowledged: its client sends it again.
      if (ok && !draining_ && !ending_ && !finished_) {
        Slot& slot = slots_.emplace_back();
        Count(slot, read_buffer_);
        next_bytes_ += slot.bytes;
        next_.emplace_back().Swap(&read_buffer_);
        handles = true;
      }
      Advance();
      if (handles) handles = MayHandle() && !DeferHandling();
    }
    if (handles) HandleNext();
  }

  // The message before the next one has its place, or a thread has handled its part.
  void OnTurn(bool /*ok*/) {
    {
      Event event(this);
      awaits_turn_ = false;
      Advance();
    }
    HandleNext();
  }

  // Whether another message may be read before the first of next_ is handled.
  bool ReadsAhead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return next_.size() < kMessagesAheadMax && next_bytes_ < kBytesAheadMax;
  }

  // Whether the first of next_ is there, has its place, and nobody sees to it already.
  bool MayHandle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !next_.empty() && accepted_ && !handling_ && !awaits_turn_ && !ending_ && !finished_;
  }

  // Puts the handling of next_ off, to be done with what comes at once; false when nothing can
  // come, or the first has come alone and is not kept waiting.
  bool DeferHandling() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!reading_ || slots_.size() == 1) return false;
    if (!defers_handling_) defers_handling_ = queue_.Defer(shared_from_this());
    return defers_handling_;
  }

  // Hands what is in next_ to the handler, one message after the other as each has its place, while
  // more are read.
  void HandleNext() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::InlinedVector<grpc::ByteBuffer*, kMessagesAheadMax> requests;
    {
      absl::MutexLock lock(&mutex_);
      if (!MayHandle()) return;
      handling_ = true;
      for (grpc::ByteBuffer& request : next_) requests.push_back(&request);
    }
    // They stay where they are: only who handles takes them out.
    if (requests.size() > 1) method_.handler->Prefetch(requests);
    grpc::ByteBuffer request;
    for (size_t i = 0; i < requests.size(); ++i) {
      const int64_t id = TakeNext(request);
      if (id == kNone) break;
      HandleMessage(method_.handler, &request, std::make_shared<Call>(shared_from_this(), id),
                    queue_.serving_queue());
    }
    absl::MutexLock lock(&mutex_);
    handling_ = false;
    // What has come meanwhile waits for its turn behind what else the thread has to do.
    AwaitTurn();
  }

  // The next message, which is to be handled now, and its id; kNone when it has no place yet, or
  // never will.
  int64_t TakeNext(grpc::ByteBuffer& request) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    // An answer to an earlier message may have ended the stream meanwhile.
    if (!accepted_ || ending_ || finished_) return kNone;
    request.Swap(&next_.front());
    next_bytes_ -= static_cast<int64_t>(request.Length());
    next_.pop_front();
    accepted_ = false;
    handled_id_ = first_id_ + static_cast<int64_t>(slots_.size() - next_.size()) - 1;
    Advance();
    return handled_id_;
  }

  // Has what is in next_ handled on the queue's thread, soon.
  void AwaitTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!MayHandle()) return;
    awaits_turn_ = true;
    turn_.Set(queue_.queue(), gpr_inf_past(GPR_CLOCK_MONOTONIC), &on_turn_);
  }

  void OnAccepted(int64_t id) {
    absl::MutexLock lock(&mutex_);
    Accept(id);
    Advance();
  }

  // The message `id` has its place, if it had not before.
  void Accept(int64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (accepted_ || id != handled_id_) return;
    accepted_ = true;
    // This thread may be a loader's.
    AwaitTurn();
  }

  void OnAnswer(int64_t id, const absl::Status& status, grpc::ByteBuffer& response) {
    absl::MutexLock lock(&mutex_);
    Accept(id);
    if (finished_) return;
    Slot& slot = slots_[static_cast<size_t>(id - first_id_)];
    slot.ready = true;
    if (EndsStream(status)) {
      slot.end = status;
      ending_ = true;
    }
    // The request has been let go.
    Count(slot, response);
    slot.response.Swap(&response);
    Advance();
  }

  void OnWrite(bool ok) {
    Event event(this);
    writing_ = false;
    Count(slots_.front(), grpc::ByteBuffer());
    slots_.pop_front();
    ++first_id_;
    if (!ok) FinishOnce(grpc::Status::CANCELLED);
    Advance();
  }

  void OnFinish(bool /*ok*/) {
    Event event(this);
    finishing_ = false;
  }

  // Counts `bytes` as what the slot holds.
  void Count(Slot& slot, const grpc::ByteBuffer& bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto length = static_cast<int64_t>(bytes.Length());
    bytes_ += length - slot.bytes;
    slot.bytes = length;
    memory_.Resize(bytes_);
  }

  // Whether another message may be in hand.
  bool HasRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (slots_.empty()) return true;
    return static_cast<int64_t>(slots_.size()) < method_.limits.messages_max &&
           bytes_ < method_.limits.bytes_max && method_.memory->HasRoom(MemoryUse::kStreams);
  }

  // Starts whatever can be started. `defers`: a small response that stands alone waits for those
  // that follow at once, so that they are sent together.
  void Advance(bool defers = true) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    if (!reading_ && ReadsAhead() && !half_closed_ && !draining_ && !ending_ && HasRoom()) {
      reading_ = true;
      stream_.Read(&read_buffer_, &on_read_);
    }
    if (!writing_ && !defers_write_ && !slots_.empty() && slots_.front().ready) {
      if (!slots_.front().end.ok()) {
        FinishOnce(ToGrpcStatus(slots_.front().end));
        return;
      }
      if (defers && (slots_.size() < 2 || !slots_[1].ready) &&
          slots_.front().bytes <= kDeferredBytesMax && queue_.Defer(shared_from_this())) {
        defers_write_ = true;
        return;
      }
      writing_ = true;
      grpc::WriteOptions options;
      // A hint that another write follows at once; without one behind it, it would stall. So would
      // the first write, which is done only when the initial metadata before it has been sent.
      if (first_id_ > 0 && slots_.size() > 1 && slots_[1].ready && slots_[1].end.ok()) {
        options.set_buffer_hint();
      }
      stream_.Write(slots_.front().response, options, &on_write_);
    }
    if (slots_.empty() && (half_closed_ || draining_)) {
      FinishOnce(half_closed_ ? grpc::Status::OK
                              : ToGrpcStatus(MakeError(Reason::kShuttingDown,
                                                       "the server is shutting down")));
    }
  }

  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    finishing_ = true;
    const std::chrono::duration<double, std::milli> cpu =
        CpuTime(CLOCK_PROCESS_CPUTIME_ID) - cpu_at_begin_;
    // As HTTP tells it (W3C, "Server Timing"): in milliseconds.
    context_.AddTrailingMetadata("server-timing", absl::StrFormat("cpu;dur=%.3f", cpu.count()));
    stream_.Finish(status, &on_finish_);
  }

  // Constant after construction.
  const StreamMethod& method_;
  const ServingQueue::User queue_;
  std::shared_ptr<MessageStream> self_;
  MemberEvent<MessageStream> on_request_{this, &MessageStream::OnRequest};
  MemberEvent<MessageStream> on_read_{this, &MessageStream::OnRead};
  MemberEvent<MessageStream> on_turn_{this, &MessageStream::OnTurn};
  MemberEvent<MessageStream> on_write_{this, &MessageStream::OnWrite};
  MemberEvent<MessageStream> on_finish_{this, &MessageStream::OnFinish};

  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_{&context_};
  grpc::Alarm turn_;
  std::chrono::nanoseconds cpu_at_begin_{0};  // constant once the stream is open

  absl::Mutex mutex_;
  grpc::ByteBuffer read_buffer_;                               // gRPC's while reading_
  std::deque<grpc::ByteBuffer> next_ ABSL_GUARDED_BY(mutex_);  // read and not yet handled
  int64_t next_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  int64_t first_id_ ABSL_GUARDED_BY(mutex_) = 0;        // of slots_.front()
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;           // of all slots
  MemoryReservation memory_ ABSL_GUARDED_BY(mutex_);    // as bytes_
  bool handling_ ABSL_GUARDED_BY(mutex_) = false;       // a thread is, and alone takes from next_
  bool accepted_ ABSL_GUARDED_BY(mutex_) = true;        // the last one handled has its place
  int64_t handled_id_ ABSL_GUARDED_BY(mutex_) = kNone;  // of that one
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // An answer ends the stream. No message behind it may be handled: were it applied, the producer's
  // sequence would pass the one that was refused, and its resend would be taken for a duplicate.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  // What is on the queue.
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool awaits_turn_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;          // the response of slots_.front()
  bool defers_write_ ABSL_GUARDED_BY(mutex_) = false;     // RunDeferred is to come
  bool defers_handling_ ABSL_GUARDED_BY(mutex_) = false;  // and is to handle next_
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

void ServeStreams(const StreamMethod& method, ServingQueue* queue) {
  std::make_shared<MessageStream>(method, queue)->Request();
}

}  // namespace normd
