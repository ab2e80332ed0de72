// How the registry does over many states: for every number of states, in a process and a RocksDB
// folder of its own, one line with the rate of creates and of listing by pages, the time from
// opening the folder to the first state, what a cold state costs (reads of the store, blocks of its
// tables, time), and the throughput of normalizing and of durable training over random states of a
// working set that fits the cache. Beside each throughput stands that over a single one of the
// states, measured in turns; the ratio is the median over the rounds. Last comes the memory.
//
//   states_bench [--states=N,N,...] [--features=C] [--batch-size=N] [--cache-bytes=SIZE]
//                [--working-set=N] [--in-flight=N] [--write-shards=N] [--rounds=N]
//                [--round-ms=MS] [--folder=FOLDER]
#include <rocksdb/perf_context.h>
#include <rocksdb/perf_level.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/norm/normalization.h"
#include "core/registry/state_registry.h"
#include "core/store/rocksdb_state_store.h"
#include "tests/benchmarks/null_observer.h"
#include "tests/benchmarks/report.h"

namespace normd::bench {
namespace {

constexpr int64_t kPageSize = 1000;
// Operations between two looks at the clock.
constexpr int64_t kOperations = 4096;

struct Options {
  std::vector<int64_t> states = {1, 1000, 100'000, 1'000'000};
  int64_t features = 64;
  int64_t batch_size = 32;
  uint64_t cache_bytes = 256 * kMiB;
  int64_t working_set = 50'000;
  int64_t in_flight = 64;
  int write_shards = static_cast<int>(kDefaultWriteShards);
  int rounds = 7;
  double round_ms = 300;
  std::string folder = std::filesystem::temp_directory_path().string();
};

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "states_bench: %s\n", status.ToString().c_str());
  abort();
}

void MustBeOk(const absl::Status& status) {
  if (!status.ok()) Die(status);
}

// Counts what loading takes.
class CountingStore final : public StateStore {
 public:
  explicit CountingStore(std::unique_ptr<StateStore> store) : store_(std::move(store)) {}

  absl::StatusOr<StoredRecord> Load(absl::string_view name) const override {
    rocksdb::SetPerfLevel(rocksdb::kEnableCount);
    const uint64_t blocks = rocksdb::get_perf_context()->block_read_count;
    auto record = store_->Load(name);
    ++loads_;
    blocks_ += rocksdb::get_perf_context()->block_read_count - blocks;
    return record;
  }
  absl::Status Commit(absl::Span<const StoreMutation> mutations) override {
    return store_->Commit(mutations);
  }
  absl::StatusOr<std::vector<StoredRecord>> List(absl::string_view prefix, absl::string_view after,
                                                 int64_t records_max,
                                                 int64_t bytes_max) const override {
    return store_->List(prefix, after, records_max, bytes_max);
  }

  int64_t loads() const { return loads_; }
  int64_t blocks() const { return static_cast<int64_t>(blocks_); }

 private:
  const std::unique_ptr<StateStore> store_;
  mutable std::atomic<int64_t> loads_ = 0;
  mutable std::atomic<uint64_t> blocks_ = 0;
};

// A change made of a function, and what follows it.
class Change final : public StateChange {
 public:
  using Function = absl::AnyInvocable<absl::Status(StateDraft&, absl::Time)>;

  Change(Function apply, std::function<void()> done)
      : apply_(std::move(apply)), done_(std::move(done)) {}
  absl::Status Apply(StateDraft& draft, absl::Time now) override { return apply_(draft, now); }
  void OnDone(const absl::Status& status, std::shared_ptr<const NormState>) override {
    MustBeOk(status);
    done_();
  }

 private:
  Function apply_;
  const std::function<void()> done_;
};

// Does operations 0 .. count - 1, `in_flight` of them at a time. An operation must end on another
// thread or after its start has returned.
class Pump {
 public:
  using Start = std::function<void(int64_t operation, std::function<void()> done)>;

  Pump(int64_t count, Start start) : count_(count), start_(std::move(start)) {}

  void Run(int64_t in_flight) {
    for (int64_t i = 0; i < std::min(in_flight, count_); ++i) StartNext();
    all_done_.WaitForNotification();
  }

 private:
  void StartNext() {
    const int64_t operation = started_.fetch_add(1);
    if (operation >= count_) return;
    start_(operation, [this] {
      StartNext();
      if (done_.fetch_add(1) + 1 == count_) all_done_.Notify();
    });
  }

  const int64_t count_;
  const Start start_;
  std::atomic<int64_t> started_ = 0;
  std::atomic<int64_t> done_ = 0;
  absl::Notification all_done_;
};

std::string NameOf(int64_t state) { return absl::StrCat("model", state % 97, "/bn", state); }

// A value in kB of /proc/self/status, in bytes.
int64_t ProcessBytes(absl::string_view key) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    int64_t kilobytes = 0;
    if (word == key && file >> kilobytes) return kilobytes * kKiB;
  }
  return 0;
}

double SecondsSince(absl::Time start) { return absl::ToDoubleSeconds(absl::Now() - start); }

// The registry over one folder of states.
class Bench {
 public:
  Bench(const Options& options, int64_t states, std::string folder)
      : options_(options), states_(states), folder_(std::move(folder)) {}

  void Open() {
    RocksdbOptions rocksdb;
    rocksdb.directory = folder_;
    auto store = OpenRocksdbStateStore(std::move(rocksdb));
    MustBeOk(store.status());
    store_ = std::make_unique<CountingStore>(*std::move(store));
    StateRegistry::Options options;
    options.cache_bytes_max = static_cast<int64_t>(options_.cache_bytes);
    options.write_shards = options_.write_shards;
    registry_ = std::make_unique<StateRegistry>(options, store_.get(), Clock::System(), &observer_);
  }

  void Close() {
    registry_.reset();
    store_.reset();
  }

  StateHandle Acquire(const std::string& name) const {
    std::optional<StateHandle> result;
    absl::Notification done;
    registry_->Acquire(name, [&](absl::StatusOr<StateHandle> handle) {
      MustBeOk(handle.status());
      result = *std::move(handle);
      done.Notify();
    });
    done.WaitForNotification();
    if (result->Get() == nullptr) Die(StateNotFound(name));
    return *result;
  }

  void CreateAll() const {
    Pump(states_, [this](int64_t operation, std::function<void()> done) {
      const std::string name = NameOf(operation);
      auto state =
          NormState::Create(name, {.num_features = options_.features}, {}, Clock::System()->Now());
      MustBeOk(state.status());
      auto create = [state = *std::move(state)](StateDraft& draft, absl::Time) mutable {
        draft.Create(std::move(state));
        return absl::OkStatus();
      };
      Submit(name, std::move(create), std::move(done));
    }).Run(16 * options_.in_flight);
  }

  // How many states all pages together have.
  int64_t ListAll() const {
    int64_t listed = 0;
    std::string after;
    do {
      absl::Notification done;
      registry_->List("", after, kPageSize, [&](absl::StatusOr<StatePage> page) {
        MustBeOk(page.status());
        listed += static_cast<int64_t>(page->states.size());
        after = page->next_after;
        done.Notify();
      });
      done.WaitForNotification();
    } while (!after.empty());
    return listed;
  }

  // Normalizations a second over random ones of `names`, on one thread.
  double Normalize(const std::vector<std::string>& names, std::mt19937_64& random) const {
    return RateOf(names, random, [this](const std::vector<std::string>& order) {
      for (const std::string& name : order) NormalizeBy(name);
    });
  }

  // Durable updates a second of random ones of `names`.
  double Train(const std::vector<std::string>& names, std::mt19937_64& random) const {
    return RateOf(names, random, [this](const std::vector<std::string>& order) {
      Pump(kOperations, [&](int64_t operation, std::function<void()> done) {
        const auto fold = [this](StateDraft& draft, absl::Time now) {
          // Taken here, where updates have their order.
          const ProducerSequence producer = {"bench", draft.Get()->producers.Sequence("bench") + 1};
          return draft.Mutable().Fold(moments_, producer, now, {});
        };
        Submit(order[static_cast<size_t>(operation)], fold, std::move(done));
      }).Run(options_.in_flight);
    });
  }

  const CountingStore& store() const { return *store_; }
  int64_t cache_bytes() const { return registry_->cache_bytes(); }

 private:
  size_t Channels() const { return static_cast<size_t>(options_.features); }

  // Operations a second: `work` does kOperations, each on one of `names`.
  template <typename Work>
  double RateOf(const std::vector<std::string>& names, std::mt19937_64& random, Work work) const {
    int64_t operations = 0;
    double seconds = 0;
    do {
      // As they lie in requests: one after the other.
      std::vector<std::string> order;
      for (int64_t i = 0; i < kOperations; ++i) order.push_back(names[random() % names.size()]);
      const absl::Time start = absl::Now();
      work(order);
      seconds += SecondsSince(start);
      operations += kOperations;
    } while (seconds < 1e-3 * options_.round_ms);
    return static_cast<double>(operations) / seconds;
  }

  void Submit(const std::string& name, Change::Function apply, std::function<void()> done) const {
    registry_->Acquire(name,
                       [this, change = std::make_unique<Change>(std::move(apply), std::move(done))](
                           absl::StatusOr<StateHandle> handle) mutable {
                         MustBeOk(handle.status());
                         registry_->Submit(*handle, std::move(change));
                       });
  }

  void NormalizeBy(const std::string& name) const {
    const std::shared_ptr<const NormState> state = Acquire(name).Get();
    const auto tensor = TensorView::Create(
        DataType::kFloat32, Layout::kChannelsFirst, shape_,
        absl::string_view(reinterpret_cast<const char*>(input_.data()), 4 * input_.size()));
    MustBeOk(tensor.status());
    const auto batch = Batch::Create(*tensor, state->config);
    MustBeOk(batch.status());
    NormalizeByRunning(*batch,
                       {.mean = state->running_stats->mean, .var = state->running_stats->var},
                       {.eps = state->config.eps, .weight = state->weight, .bias = state->bias},
                       reinterpret_cast<char*>(output_.data()), ParallelRunner::Inline());
  }

  const Options options_;
  const int64_t states_;
  const std::string folder_;
  NullObserver observer_;
  std::unique_ptr<CountingStore> store_;
  std::unique_ptr<StateRegistry> registry_;

  const std::vector<int64_t> shape_ = {options_.batch_size, options_.features};
  const std::vector<float> input_ =
      std::vector<float>(static_cast<size_t>(options_.batch_size) * Channels(), 1.5F);
  const Moments moments_ = {.count = options_.batch_size,
                            .mean = std::vector<double>(Channels(), 1.5),
                            .m2 = std::vector<double>(Channels(), 2.5)};
  mutable std::vector<float> output_ = std::vector<float>(input_.size());
};

// A throughput over one state and over random ones.
struct Comparison {
  double one = 0;
  double random = 0;
  double ratio = 0;
};

Comparison Compare(int rounds, const std::function<double()>& one,
                   const std::function<double()>& random) {
  std::vector<double> ones;
  std::vector<double> randoms;
  std::vector<double> ratios;
  for (int round = 0; round < rounds; ++round) {
    ones.push_back(one());
    randoms.push_back(random());
    ratios.push_back(ones.back() / randoms.back());
  }
  return {.one = Median(ones), .random = Median(randoms), .ratio = Median(ratios)};
}

void PrintHeadingOfStates() {
  std::printf("%9s %9s %9s %8s | %6s %6s %6s | %9s %9s %5s | %9s %9s %5s | %6s %6s %6s\n", "states",
              "create/s", "list/s", "open ms", "reads", "blocks", "us", "norm/s", "one", "ratio",
              "train/s", "one", "ratio", "cache", "MiB", "peak");
}

void RunOne(const Options& options, int64_t states, const std::string& folder, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bench bench(options, states, folder);
  bench.Open();
  const absl::Time create_start = absl::Now();
  bench.CreateAll();
  const double create_rate = static_cast<double>(states) / SecondsSince(create_start);
  bench.Close();

  const absl::Time open_start = absl::Now();
  bench.Open();
  bench.Acquire(NameOf(0));
  const double open_seconds = SecondsSince(open_start);

  const absl::Time list_start = absl::Now();
  const int64_t listed = bench.ListAll();
  if (listed != states) {
    Die(absl::InternalError(absl::StrCat(listed, " states are listed, expected ", states)));
  }
  const double list_rate = static_cast<double>(states) / SecondsSince(list_start);

  // Random ones, none of them in memory but the one that was read.
  std::vector<int64_t> order;
  for (int64_t i = 1; i < states; ++i) order.push_back(i);
  std::shuffle(order.begin(), order.end(), random);
  const std::vector<std::string> one = {NameOf(0)};
  std::vector<std::string> working_set = one;
  for (const int64_t state : order) {
    if (static_cast<int64_t>(working_set.size()) == options.working_set) break;
    working_set.push_back(NameOf(state));
  }
  const int64_t loads = bench.store().loads();
  const int64_t blocks = bench.store().blocks();
  const absl::Time cold_start = absl::Now();
  for (const std::string& name : working_set) bench.Acquire(name);
  const double cold_seconds = SecondsSince(cold_start);
  const auto per_cold = [&working_set](auto value) {
    return static_cast<double>(value) /
           std::max<double>(1, static_cast<double>(working_set.size()) - 1);
  };
  const double cold_loads = per_cold(bench.store().loads() - loads);
  const double cold_blocks = per_cold(bench.store().blocks() - blocks);

  const int64_t warm = bench.store().loads();
  const Comparison normalize = Compare(
      options.rounds, [&] { return bench.Normalize(one, random); },
      [&] { return bench.Normalize(working_set, random); });
  const Comparison train = Compare(
      options.rounds, [&] { return bench.Train(one, random); },
      [&] { return bench.Train(working_set, random); });
  if (bench.store().loads() != warm) {
    std::printf("note: the working set does not fit the cache: %lld more reads\n",
                static_cast<long long>(bench.store().loads() - warm));
  }

  const auto mebibytes = [](int64_t bytes) { return static_cast<double>(bytes) / kMiB; };
  std::printf(
      "%9lld %9.0f %9.0f %8.1f | %6.2f %6.2f %6.1f | %9.0f %9.0f %5.2f | %9.0f %9.0f %5.2f | "
      "%6.0f %6.0f %6.0f\n",
      static_cast<long long>(states), create_rate, list_rate, 1e3 * open_seconds, cold_loads,
      cold_blocks, 1e6 * per_cold(cold_seconds), normalize.random, normalize.one, normalize.ratio,
      train.random, train.one, train.ratio, mebibytes(bench.cache_bytes()),
      mebibytes(ProcessBytes("VmRSS:")), mebibytes(ProcessBytes("VmHWM:")));
}

// In a process of its own, whose memory is that of this number of states alone.
bool RunInChild(const Options& options, int64_t states, uint64_t seed) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    std::string folder = (std::filesystem::path(options.folder) / "normd_states_XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) Die(absl::ErrnoToStatus(errno, folder));
    RunOne(options, states, folder + "/data", seed);
    std::filesystem::remove_all(folder);
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace
}  // namespace normd::bench

int main(int argc, char** argv) {
  // As in the server.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  normd::bench::Options options;
  uint64_t seed = std::random_device()();
  CLI::App app("How the registry does over many states");
  app.add_option("--states", options.states, "numbers of states, each in a process of its own")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--features", options.features, "num_features of every state")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--batch-size", options.batch_size, "samples of a batch")
      ->check(CLI::Range(2, 1'000'000))
      ->capture_default_str();
  app.add_option("--cache-bytes", options.cache_bytes, "memory for states")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--working-set", options.working_set, "states that throughput is measured over")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--in-flight", options.in_flight, "updates at a time; creates: 16 times that")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--write-shards", options.write_shards, "threads that commit")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "rounds of every throughput")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--round-ms", options.round_ms, "milliseconds of one throughput in a round")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--folder", options.folder, "where the data lies meanwhile")
      ->capture_default_str();
  app.add_option("--seed", seed, "of the order of states");
  CLI11_PARSE(app, argc, argv);
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  normd::bench::PrintHeadingOfStates();
  for (const int64_t states : options.states) {
    if (!normd::bench::RunInChild(options, states, seed)) return 1;
  }
  return 0;
}
