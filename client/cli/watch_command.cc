#include <pthread.h>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"

namespace normd::cli {
namespace {

struct WatchOptions {
  std::string prefix;
};

// Takes SIGINT and SIGTERM: they end the watch, and before it stands the process. To be made before
// any other thread, so that none but its own gets them.
class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread([this] {
      int signal = 0;
      sigwait(&signals_, &signal);
      const absl::MutexLock lock(&mutex_);
      if (is_over_) return;
      if (watch_ == nullptr) std::_Exit(static_cast<int>(ExitCode::kOk));
      watch_->Cancel();
    });
  }

  ~EndSignals() {
    SetWatch(nullptr, /*is_over=*/true);
    // Wakes the thread when it was not a signal that ended the watch. The signal is blocked and
    // ends in sigwait. NOLINTNEXTLINE(bugprone-bad-signal-to-kill-thread)
    pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }

  // `watch` must outlive this object.
  void SetWatch(client::StateWatch* watch) { SetWatch(watch, /*is_over=*/false); }

 private:
  void SetWatch(client::StateWatch* watch, bool is_over) {
    const absl::MutexLock lock(&mutex_);
    watch_ = watch;
    is_over_ = is_over;
  }

  sigset_t signals_;
  std::thread thread_;

  absl::Mutex mutex_;
  client::StateWatch* watch_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool is_over_ ABSL_GUARDED_BY(mutex_) = false;
};

const char* KindName(client::StateEvent::Kind kind) {
  switch (kind) {
    case client::StateEvent::Kind::kChanged:
      return "CHANGED";
    case client::StateEvent::Kind::kDeleted:
      return "DELETED";
    case client::StateEvent::Kind::kMissed:
      return "MISSED";
  }
  return "UNKNOWN";
}

bool PrintEvent(const GlobalOptions& global, const client::StateEvent& event) {
  const bool missed = event.kind == client::StateEvent::Kind::kMissed;
  if (global.json) {
    nlohmann::ordered_json json;
    json["event"] = KindName(event.kind);
    if (!missed) {
      json["name"] = event.name;
      json["revision"] = event.revision;
      json["num_batches_tracked"] = event.num_batches_tracked;
      json["etag"] = event.etag;
    }
    return PrintJson(global, json);
  }
  if (missed) return PrintText(global, "MISSED   some changes: list the states to catch up\n");
  return PrintText(global, absl::StrCat(KindName(event.kind), "  ", event.name, "  revision ",
                                        event.revision, ", num_batches_tracked ",
                                        event.num_batches_tracked, ", etag ", event.etag, "\n"));
}

// Prints events until the watch ends.
ExitCode PrintEvents(const GlobalOptions& global, client::StateWatch* watch) {
  while (true) {
    const absl::StatusOr<std::optional<client::StateEvent>> event = watch->Next();
    if (!event.ok()) return ServerError(global, event.status());
    if (!event->has_value()) return ExitCode::kOk;
    if (!PrintEvent(global, **event)) return ExitCode::kInput;
  }
}

ExitCode RunWatch(const GlobalOptions& global, const WatchOptions& options) {
  std::unique_ptr<client::StateWatch> watch;
  EndSignals end_signals;
  const auto client = Connect(global);
  if (!client.ok()) return ServerError(global, client.status());
  auto opened = (*client)->WatchStates(options.prefix);
  if (!opened.ok()) return ServerError(global, opened.status());
  watch = *std::move(opened);
  end_signals.SetWatch(watch.get());
  PrintNote(global, options.prefix.empty() ? std::string("watching all states")
                                           : absl::StrCat("watching the states that begin with '",
                                                          options.prefix, "'"));
  return PrintEvents(global, watch.get());
}

}  // namespace

void AddWatchCommand(CLI::App* app, CommandLine* line) {
  CLI::App* const command =
      AddCommand(app, "watch", "Print the changes of states as they happen, until interrupted",
                 "  normctl watch resnet/\n"
                 "  normctl watch --json | jq .revision");
  const auto options = std::make_shared<WatchOptions>();
  command->add_option("PREFIX", options->prefix, "Only names that begin with it")->option_text(" ");
  command->callback([line, options] {
    line->run = [line, options] { return RunWatch(line->global, *options); };
  });
}

}  // namespace normd::cli
