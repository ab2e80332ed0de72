#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <ctime>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/bench_options.h"
#include "client/cli/bench_report.h"
#include "client/cli/bench_states.h"
#include "client/cli/command_line.h"
#include "client/cli/console.h"
#include "client/cli/progress_bar.h"
#include "client/cli/status_macros.h"
#include "client/load/load.h"
#include "client/load/process.h"

namespace normd::cli {
namespace {

constexpr absl::Duration kConnectTimeoutMax = absl::Seconds(3);
// Between looks at what is on disk.
constexpr absl::Duration kDurableInterval = absl::Milliseconds(10);

// Takes SIGINT and SIGTERM, so that states are deleted and figures printed after one. To be made
// before any other thread. Thread-safe.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }

  // Whether one has come.
  bool HaveCome() {
    constexpr timespec kNoWait = {};
    if (sigtimedwait(&signals_, nullptr, &kNoWait) > 0) have_come_ = true;
    return have_come_;
  }

  // From here on another one ends the process.
  void LetGo() {
    HaveCome();
    pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
  }

 private:
  sigset_t signals_;
  std::atomic<bool> have_come_ = false;
};

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return absl::ToDoubleSeconds(absl::DurationFromTimeval(usage.ru_utime) +
                               absl::DurationFromTimeval(usage.ru_stime));
}

load::LoadOptions ToLoadOptions(const GlobalOptions& global, const BenchOptions& options) {
  const absl::Duration timeout = absl::Seconds(global.timeout_seconds);
  return {.address = global.address,
          .channels = options.channels,
          .streams = options.streams,
          .window = options.window,
          .threads = options.threads,
          .warmup = absl::Seconds(options.warmup_seconds),
          .duration = absl::Seconds(options.duration_seconds),
          .messages = options.messages,
          .check_answers = options.peer == BenchPeer::kNormd,
          .connect_timeout = std::min(timeout, kConnectTimeoutMax),
          .answer_timeout = timeout};
}

absl::StatusOr<load::RequestSource> MakeSource(const BenchOptions& options,
                                               const BenchStates& states) {
  // No other run may have used the producers: their sequences begin at 1.
  std::random_device random;
  return load::RequestSource::Make(
      {.mode = options.mode,
       .states = states.names(),
       .batch = BenchBatch(options),
       .return_output = !options.no_output,
       .durability = options.durability,
       .producer_prefix = absl::StrCat("bench-", absl::Hex(random()), absl::Hex(random()), "-"),
       .seed = options.seed});
}

absl::StatusOr<load::LoadReport> RunLoad(const GlobalOptions& global, const BenchOptions& options,
                                         const load::RequestSource& source, StopSignals& signals) {
  ProgressBar bar(TerminalForProgress(), absl::StrCat("bench ", BenchModeName(options.mode)));
  return load::RunLoad(ToLoadOptions(global, options), source,
                       [&](const load::LoadProgress& progress) {
                         bar.Update({.batches = progress.messages,
                                     .bytes = progress.sent_bytes,
                                     .fraction = progress.fraction,
                                     .unit = "messages"});
                         return !signals.HaveCome();
                       });
}

// What num_batches_tracked has come to, once it has grown as expected or will no longer: what is
// relaxed shows when it is on disk.
absl::StatusOr<int64_t> AwaitTracked(BenchStates& states, int64_t expected,
                                     absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    absl::StatusOr<int64_t> tracked = states.NumBatchesTracked();
    if (!tracked.ok() || *tracked >= expected || absl::Now() > deadline) return tracked;
    absl::SleepFor(kDurableInterval);
  }
}

// Creates the states and runs the load, with what a normd says of it.
absl::StatusOr<BenchResult> Measure(const GlobalOptions& global, const BenchOptions& options,
                                    BenchStates& states, StopSignals& signals) {
  const bool is_normd = options.peer == BenchPeer::kNormd;
  const bool is_counted = is_normd && options.mode != load::Mode::kNormalize;
  if (is_normd) {
    const bool must_be_new = is_counted && !options.existing;
    const absl::Status created =
        states.Create(client::StateConfig::BatchNorm(BenchChannels(options)), must_be_new,
                      [&signals] { return signals.HaveCome(); });
    if (must_be_new && absl::IsAlreadyExists(created)) {
      return absl::AlreadyExistsError(
          absl::StrCat(created.message(),
                       ", and would be trained: give another --prefix, or --existing to train it"));
    }
    NORMD_CLI_RETURN_IF_ERROR(created);
  }
  int64_t tracked_before = 0;
  if (is_counted) {
    NORMD_CLI_ASSIGN_OR_RETURN(tracked_before, states.NumBatchesTracked());
  }
  const auto source = MakeSource(options, states);
  if (!source.ok()) return source.status();

  const double cpu_before = CpuSeconds();
  auto report = RunLoad(global, options, *source, signals);
  if (!report.ok()) return report.status();
  BenchResult result = {.address = global.address,
                        .options = options,
                        .load = *std::move(report),
                        .client_cpu_seconds = CpuSeconds() - cpu_before,
                        .tracked_growth = std::nullopt,
                        .tracked_status = absl::OkStatus()};
  if (!is_counted) return result;
  const auto tracked = AwaitTracked(states, tracked_before + result.load.acknowledged,
                                    absl::Seconds(global.timeout_seconds));
  // What was measured is told even when the server has gone.
  result.tracked_status = tracked.status();
  if (tracked.ok()) result.tracked_growth = *tracked - tracked_before;
  return result;
}

ExitCode ReportResult(const GlobalOptions& global, const BenchResult& result) {
  const bool printed =
      global.json ? PrintJson(global, BenchToJson(result)) : PrintText(global, BenchToText(result));
  if (!printed) return ExitCode::kInput;
  if (result.load.errors > 0) return ServerError(global, result.load.first_error);
  if (!result.tracked_status.ok()) return ServerError(global, result.tracked_status);
  if (CountsDiffer(result)) {
    return ServerError(global, absl::DataLossError(absl::StrCat(
                                   "the server counted ", *result.tracked_growth,
                                   " updates and acknowledged ", result.load.acknowledged)));
  }
  return ExitCode::kOk;
}

ExitCode RunBench(const GlobalOptions& global, const BenchOptions& options) {
  if (const std::string fault = BenchFault(options); !fault.empty()) {
    return UsageError(global, fault);
  }
  load::TuneProcess();
  StopSignals signals;
  std::unique_ptr<client::Client> client;
  if (options.peer == BenchPeer::kNormd) {
    auto connected = Connect(global);
    if (!connected.ok()) return ServerError(global, connected.status());
    client = *std::move(connected);
  }
  BenchStates states(client.get(), options.prefix, options.states);
  const absl::StatusOr<BenchResult> result = Measure(global, options, states, signals);
  signals.LetGo();
  absl::Status deleted;
  if (client != nullptr && !options.keep) deleted = states.Delete();

  if (!result.ok()) return ServerError(global, result.status());
  const ExitCode exit_code = ReportResult(global, *result);
  return deleted.ok() || exit_code != ExitCode::kOk ? exit_code : ServerError(global, deleted);
}

}  // namespace

void AddBenchCommand(CLI::App* app, CommandLine* line) {
  CLI::App* const command = AddCommand(
      app, "bench", "Load a server and tell how fast it answers",
      "  normctl bench\n"
      "  normctl bench --mode normalize --shape 32,64,56,56 --dtype bfloat16 --window 16\n"
      "  normctl bench --mode train-moments --states 10000 --streams 8 --channels 4\n"
      "  normctl bench --durability relaxed --duration 60 --json\n\n"
      "Messages are encoded beforehand and answers are only looked through for errors, so that\n"
      "the server is what is measured. Latency runs from the write of a message to its answer:\n"
      "with a window above 1 it has the wait in the queue in it. CPU is of the whole process, so\n"
      "the server's is also what it did for others. Any error ends the command with its exit\n"
      "code, and so does a server whose num_batches_tracked does not grow by the updates it\n"
      "acknowledged: let nobody else train the states meanwhile.");
  const auto options = std::make_shared<BenchOptions>();
  AddBenchOptions(command, options.get());
  command->callback([line, options] {
    line->run = [line, options] { return RunBench(line->global, *options); };
  });
}

}  // namespace normd::cli
