#ifndef NORMD_CLIENT_LOAD_LOAD_STREAM_H_
#define NORMD_CLIENT_LOAD_LOAD_STREAM_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "client/load/latency_histogram.h"
#include "client/load/request_source.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"

namespace normd::load {

using LoadClock = std::chrono::steady_clock;

// What all streams of a load follow.
struct LoadPlan {
  size_t window = 1;
  int error_field = 0;  // of an answer; 0: it is not looked for
  const char* method = nullptr;
  LoadClock::time_point measure_from;
  LoadClock::time_point measure_until;  // from then on nothing is sent
  std::atomic<bool> stop = false;       // nor when this is set
};

// What the streams of one thread have counted. Written by that thread; others may read the atomics.
struct LoadTally {
  // Of the whole load.
  std::atomic<int64_t> answered = 0;
  std::atomic<int64_t> answered_bytes = 0;  // of the messages that were answered
  int64_t acknowledged = 0;
  int64_t unanswered = 0;
  int64_t errors = 0;
  absl::Status first_error;
  // The most that a stream was told at its end of the server's processor time.
  std::optional<double> server_cpu_seconds;
  LoadClock::time_point last_answer;
  // Of what is measured.
  LatencyHistogram latency;
  int64_t sent_bytes = 0;
  int64_t received_bytes = 0;

  void AddError(const absl::Status& error);
};

// One stream of a load: keeps its window full until the plan is over, then ends its side, takes
// what is still owed, and finishes. All calls by the thread of its completion queue.
class LoadStream {
 public:
  // Sends at most `messages_max` messages. All pointers must outlive the stream.
  LoadStream(const LoadPlan* plan, RequestSource::Stream requests, int64_t messages_max,
             const std::shared_ptr<grpc::Channel>& channel, grpc::CompletionQueue* queue,
             LoadTally* tally);
  LoadStream(const LoadStream&) = delete;
  LoadStream& operator=(const LoadStream&) = delete;

  void Start();
  // Handles what came out of the completion queue. Returns its stream.
  static LoadStream* OnEvent(void* tag, bool ok);
  // Whether it has begun to owe writes: it could write, and waits until half of its window is free
  // or WriteOwed() is called, so that more messages go out together. True once until that call.
  bool BeginsToOwe();
  void WriteOwed();
  bool is_finished() const { return is_finished_; }
  // Breaks the stream off. By any thread, once it was started.
  void Cancel() { context_.TryCancel(); }

 private:
  // What the completion queue gives back.
  struct Event {
    LoadStream* stream;
    void (LoadStream::*handle)(bool ok);
  };
  struct Sent {
    LoadClock::time_point at;
    int64_t bytes;
  };

  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);

  // Starts the next write, or the end of this side, when it is time for one.
  void Write();
  void Take(grpc::ByteBuffer& answer);
  // Asks for the status once nothing else is under way.
  void MaybeFinish();
  int64_t window() const { return static_cast<int64_t>(plan_->window); }
  int64_t in_flight() const { return num_sent_ - num_answered_; }

  const LoadPlan* const plan_;
  const int64_t messages_max_;
  LoadTally* const tally_;
  RequestSource::Stream requests_;
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  Event started_ = {this, &LoadStream::OnStarted};
  Event read_ = {this, &LoadStream::OnRead};
  Event written_ = {this, &LoadStream::OnWritten};
  Event finished_ = {this, &LoadStream::OnFinished};

  std::vector<Sent> sent_;  // a ring: message i is at i % window
  int64_t num_sent_ = 0;
  int64_t num_answered_ = 0;
  grpc::ByteBuffer answer_;
  grpc::Status status_;
  bool is_reading_ = false;
  bool is_writing_ = false;
  bool owes_writes_ = false;
  bool is_owing_known_ = false;
  bool has_ended_side_ = false;  // nothing more is written
  bool is_finishing_ = false;
  bool is_finished_ = false;
};

}  // namespace normd::load

#endif  // NORMD_CLIENT_LOAD_LOAD_STREAM_H_
