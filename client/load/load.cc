#include "client/load/load.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/load/load_stream.h"
#include "grpcpp/channel.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

namespace normd::load {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);

using Channels = std::vector<std::shared_ptr<grpc::Channel>>;

absl::StatusOr<Channels> Connect(const LoadOptions& options) {
  Channels channels;
  for (int64_t i = 0; i < options.channels; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxSendMessageSize(-1);
    arguments.SetMaxReceiveMessageSize(-1);
    // A connection of its own.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channels.push_back(
        grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), arguments));
  }
  const auto deadline = absl::ToChronoTime(absl::Now() + options.connect_timeout);
  for (const auto& channel : channels) {
    if (!channel->WaitForConnected(deadline)) {
      return absl::UnavailableError(absl::StrCat("cannot reach ", options.address, " within ",
                                                 absl::FormatDuration(options.connect_timeout)));
    }
  }
  return channels;
}

// A thread with its completion queue and its streams.
class Worker {
 public:
  void AddStream(const LoadPlan* plan, RequestSource::Stream requests, int64_t messages_max,
                 const std::shared_ptr<grpc::Channel>& channel) {
    streams_.push_back(std::make_unique<LoadStream>(plan, std::move(requests), messages_max,
                                                    channel, &queue_, &tally_));
  }

  // Starts the streams, and the thread, which calls `on_end` when all have finished.
  void Start(std::function<void()> on_end) {
    for (const auto& stream : streams_) stream->Start();
    thread_ = std::thread([this, on_end = std::move(on_end)] {
      Work();
      on_end();
    });
  }
  void Cancel() {
    for (const auto& stream : streams_) stream->Cancel();
  }
  void Join() {
    thread_.join();
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  // The atomics at any time, the rest after Join().
  const LoadTally& tally() const { return tally_; }

 private:
  // Handles events until all streams have finished. Streams that could write do so when no more
  // answers wait to be taken, so that their messages go out together: a message that is written
  // and flushed by itself costs a system call, and the server a wake-up.
  void Work() {
    std::vector<LoadStream*> owing;
    void* tag = nullptr;
    bool ok = false;
    for (size_t left = streams_.size(); left > 0;) {
      if (owing.empty()) {
        queue_.Next(&tag, &ok);
      } else if (queue_.AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC)) ==
                 grpc::CompletionQueue::TIMEOUT) {
        for (LoadStream* const stream : owing) stream->WriteOwed();
        owing.clear();
        continue;
      }
      LoadStream* const stream = LoadStream::OnEvent(tag, ok);
      if (stream->BeginsToOwe()) owing.push_back(stream);
      if (stream->is_finished()) --left;
    }
  }

  grpc::CompletionQueue queue_;
  LoadTally tally_;
  std::vector<std::unique_ptr<LoadStream>> streams_;
  std::thread thread_;
};

class Load {
 public:
  Load(const LoadOptions& options, const RequestSource& source, const Channels& channels)
      : options_(options),
        workers_(static_cast<size_t>(std::min(options.threads, options.streams))) {
    plan_.window = static_cast<size_t>(options.window);
    plan_.error_field = options.check_answers ? source.error_field() : 0;
    plan_.method = source.method();
    for (int64_t i = 0; i < options.streams; ++i) {
      const auto index = static_cast<size_t>(i);
      workers_[index % workers_.size()].AddStream(&plan_, source.OpenStream(i), MessagesOf(i),
                                                  channels[index % channels.size()]);
    }
  }

  LoadReport Run(const std::function<bool(const LoadProgress&)>& go_on) {
    begin_ = LoadClock::now();
    plan_.measure_from = begin_;
    plan_.measure_until = LoadClock::time_point::max();
    if (options_.messages == 0) {
      plan_.measure_from += absl::ToChronoNanoseconds(options_.warmup);
      plan_.measure_until = plan_.measure_from + absl::ToChronoNanoseconds(options_.duration);
    }
    for (Worker& worker : workers_) {
      worker.Start([this] {
        const absl::MutexLock lock(&mutex_);
        ++ended_workers_;
      });
    }
    Await(go_on);
    for (Worker& worker : workers_) worker.Join();
    return Report();
  }

 private:
  // How many messages stream `index` sends at most.
  int64_t MessagesOf(int64_t index) const {
    if (options_.messages == 0) return std::numeric_limits<int64_t>::max();
    return options_.messages / options_.streams + (index < options_.messages % options_.streams);
  }

  LoadProgress Progress() const {
    LoadProgress progress;
    for (const Worker& worker : workers_) {
      progress.messages += worker.tally().answered.load(std::memory_order_relaxed);
      progress.sent_bytes += worker.tally().answered_bytes.load(std::memory_order_relaxed);
    }
    const std::chrono::duration<double> elapsed = LoadClock::now() - begin_;
    progress.fraction =
        options_.messages > 0
            ? static_cast<double>(progress.messages) / static_cast<double>(options_.messages)
            : elapsed / std::chrono::duration<double>(plan_.measure_until - begin_);
    return progress;
  }

  // Returns when all workers have ended. Breaks off a load that stands still.
  void Await(const std::function<bool(const LoadProgress&)>& go_on) {
    int64_t answered = 0;
    absl::Time answered_at = absl::Now();
    const absl::MutexLock lock(&mutex_);
    const auto all_ended = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return ended_workers_ == workers_.size();
    };
    while (!mutex_.AwaitWithTimeout(absl::Condition(&all_ended), kProgressInterval)) {
      const LoadProgress progress = Progress();
      if (!go_on(progress)) plan_.stop.store(true, std::memory_order_relaxed);
      if (progress.messages != answered) {
        answered = progress.messages;
        answered_at = absl::Now();
      } else if (absl::Now() - answered_at > options_.answer_timeout && !is_broken_off_) {
        is_broken_off_ = true;
        for (Worker& worker : workers_) worker.Cancel();
      }
    }
  }

  LoadReport Report() const {
    LoadReport report;
    LoadClock::time_point last_answer = plan_.measure_from;
    report.stopped = plan_.stop.load(std::memory_order_relaxed);
    for (const Worker& worker : workers_) {
      const LoadTally& tally = worker.tally();
      if (report.errors == 0) report.first_error = tally.first_error;
      report.errors += tally.errors;
      report.latency.Merge(tally.latency);
      report.sent_bytes += tally.sent_bytes;
      report.received_bytes += tally.received_bytes;
      report.answered += tally.answered.load(std::memory_order_relaxed);
      report.acknowledged += tally.acknowledged;
      report.unanswered += tally.unanswered;
      last_answer = std::max(last_answer, tally.last_answer);
      // The streams were open together, each for about the whole time.
      report.server_cpu_seconds = std::max(report.server_cpu_seconds, tally.server_cpu_seconds);
    }
    report.messages = report.latency.count();
    report.seconds = std::chrono::duration<double>(std::min(last_answer, plan_.measure_until) -
                                                   plan_.measure_from)
                         .count();
    if (is_broken_off_) {
      report.first_error = absl::DeadlineExceededError(
          absl::StrCat(report.unanswered, " messages were not answered: no answer came for ",
                       absl::FormatDuration(options_.answer_timeout)));
    }
    return report;
  }

  const LoadOptions options_;
  // Constant while the workers run, but for `stop`.
  LoadPlan plan_;
  LoadClock::time_point begin_;
  std::vector<Worker> workers_;
  bool is_broken_off_ = false;

  absl::Mutex mutex_;
  size_t ended_workers_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<LoadReport> RunLoad(const LoadOptions& options, const RequestSource& source,
                                   const std::function<bool(const LoadProgress&)>& go_on) {
  const auto channels = Connect(options);
  if (!channels.ok()) return channels.status();
  return Load(options, source, *channels).Run(go_on);
}

}  // namespace normd::load
