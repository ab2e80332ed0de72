#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <limits>
#include <memory>
#include <variant>

#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "core/base/clock.h"
#include "google/protobuf/stubs/logging.h"
#include "server/log.h"
#include "server/options.h"
#include "server/server.h"

namespace normd {
namespace {

constexpr int kExitCannotStart = 1;
constexpr int kExitStoreFailed = 70;  // EX_SOFTWARE of sysexits.h

// gRPC does not recover from running out of descriptors.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Keeps memory that was freed for the next message: mapping and unmapping it for each costs a
// quarter of the throughput of large ones.
void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
}

// Blocked in every thread, so that main can wait for them.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// Debian builds Abseil with its search for deadlocks: a graph of all mutexes, of which every state
// has one, behind a single lock. Tests keep it.
void StopSearchingForDeadlocks() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

// Protobuf would write a line for each message that it refuses; its client is told.
void SilenceProtobuf() { google::protobuf::SetLogHandler(nullptr); }

// Ends the process without a further word to any client or to the disk.
void ExitStoreFailed(const absl::Status& /*status*/) { _exit(kExitStoreFailed); }

int Main(int argc, const char* const* argv) {
  StopSearchingForDeadlocks();
  SilenceProtobuf();
  const std::variant<ServerOptions, ExitNow> parsed = ParseOptions(argc, argv);
  if (const auto* exit_now = std::get_if<ExitNow>(&parsed)) return exit_now->code;
  const auto& options = std::get<ServerOptions>(parsed);
  InitializeLog(options.log_level);
  const sigset_t signals = BlockStopSignals();
  signal(SIGPIPE, SIG_IGN);
  RaiseDescriptorLimit();
  KeepFreedMemory();

  absl::StatusOr<std::unique_ptr<Server>> server =
      Server::Start(options, Clock::System(), &ExitStoreFailed);
  if (!server.ok()) {
    spdlog::error("event=cannot_start error={}", LogValue(server.status().message()));
    return kExitCannotStart;
  }
  spdlog::info("event=started version={} listen={} store={} data_dir={}", NORMD_VERSION,
               absl::StrJoin((*server)->addresses(), ","),
               options.store == ServerOptions::Store::kMemory ? "memory" : "rocksdb",
               LogValue(options.data_dir));

  int stop_signal = 0;
  sigwait(&signals, &stop_signal);
  spdlog::info("event=draining signal={}", stop_signal);
  // A second signal ends the process at once.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  (*server)->Drain();
  server->reset();
  spdlog::info("event=stopped");
  return 0;
}

}  // namespace
}  // namespace normd

int main(int argc, char** argv) { return normd::Main(argc, argv); }
