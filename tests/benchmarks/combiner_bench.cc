// Durable updates a second through the write path, 64 in flight, against a bare RocksDB loop that
// writes the same record with a sync for every update. The counter vs_bare is the ratio of the two
// in this run.

#include <benchmark/benchmark.h>
#include <rocksdb/db.h>
#include <stdlib.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "core/registry/state_registry.h"
#include "core/state/state_codec.h"
#include "core/store/rocksdb_state_store.h"
#include "tests/benchmarks/null_observer.h"

namespace normd {
namespace {

constexpr int64_t kNumFeatures = 64;
constexpr int64_t kInFlight = 64;
constexpr int64_t kUpdatesPerBatch = 4096;

// What the bare loop reached in this run, updates a second.
double bare_rate = 0;

class TempFolder {
 public:
  TempFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "normd_bench_XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) abort();
    path_ = path;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

NormState NewState(const std::string& name) {
  NormState state =
      NormState::Create(name, {.num_features = kNumFeatures}, {}, absl::UnixEpoch()).value();
  state.revision = 1;
  return state;
}

Moments Batch() {
  return {.count = 32,
          .mean = std::vector<double>(kNumFeatures, 1.5),
          .m2 = std::vector<double>(kNumFeatures, 2.5)};
}

// Keeps kInFlight updates under way until `updates` are on disk; update i goes to state i % states.
class Load {
 public:
  Load(StateRegistry* registry, const std::vector<StateHandle>* states, int64_t updates)
      : registry_(registry), states_(states), updates_(updates) {}

  void Run() {
    for (int64_t i = 0; i < kInFlight; ++i) SubmitNext();
    all_done_.WaitForNotification();
  }

 private:
  class Update final : public StateChange {
   public:
    explicit Update(Load* load) : load_(load) {}

    absl::Status Apply(StateDraft& draft, absl::Time now) override {
      // Taken here, where updates have their order.
      const ProducerSequence producer = {"bench", draft.Get()->producers.Sequence("bench") + 1};
      if (const auto decided = draft.Get()->Decide(load_->batch_, producer)) {
        return absl::InternalError("the update was not applied");
      }
      return draft.Mutable().Fold(load_->batch_, producer, now, {});
    }
    void OnDone(const absl::Status& status, std::shared_ptr<const NormState>) override {
      if (!status.ok()) abort();
      load_->OnDone();
    }

   private:
    Load* const load_;
  };

  void SubmitNext() {
    const int64_t update = submitted_.fetch_add(1);
    if (update >= updates_) return;
    const StateHandle& state = (*states_)[static_cast<size_t>(update) % states_->size()];
    registry_->Submit(state, std::make_unique<Update>(this));
  }
  void OnDone() {
    SubmitNext();
    if (done_.fetch_add(1) + 1 == updates_) all_done_.Notify();
  }

  StateRegistry* const registry_;
  const std::vector<StateHandle>* const states_;
  const int64_t updates_;
  const Moments batch_ = Batch();
  std::atomic<int64_t> submitted_ = 0;
  std::atomic<int64_t> done_ = 0;
  absl::Notification all_done_;
};

class CreateChange final : public StateChange {
 public:
  CreateChange(std::string name, absl::Notification* done) : name_(std::move(name)), done_(done) {}
  absl::Status Apply(StateDraft& draft, absl::Time) override {
    draft.Create(NewState(name_));
    return absl::OkStatus();
  }
  void OnDone(const absl::Status& status, std::shared_ptr<const NormState>) override {
    if (!status.ok()) abort();
    done_->Notify();
  }

 private:
  const std::string name_;
  absl::Notification* const done_;
};

StateHandle NewHandle(StateRegistry& registry, const std::string& name) {
  std::unique_ptr<StateHandle> result;
  absl::Notification acquired;
  registry.Acquire(name, [&](absl::StatusOr<StateHandle> handle) {
    result = std::make_unique<StateHandle>(*std::move(handle));
    acquired.Notify();
  });
  acquired.WaitForNotification();
  absl::Notification created;
  registry.Submit(*result, std::make_unique<CreateChange>(name, &created));
  created.WaitForNotification();
  return *result;
}

void BareRocksdb(benchmark::State& bench) {
  const TempFolder folder;
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  rocksdb::DB* db = nullptr;
  if (!rocksdb::DB::Open(options, folder.path(), &db).ok()) abort();
  rocksdb::WriteOptions write;
  write.sync = true;
  const std::string record = EncodeState(NewState("bench/0"));
  int64_t updates = 0;
  const absl::Time start = absl::Now();
  for (auto _ : bench) {
    if (!db->Put(write, "bench/0", record).ok()) abort();
    ++updates;
  }
  bare_rate = static_cast<double>(updates) / absl::ToDoubleSeconds(absl::Now() - start);
  bench.SetItemsProcessed(updates);
  bench.counters["record_bytes"] = static_cast<double>(record.size());
  delete db;
}
BENCHMARK(BareRocksdb)->UseRealTime();

void Combiner(benchmark::State& bench) {
  const TempFolder folder;
  RocksdbOptions options;
  options.directory = folder.path() + "/data";
  const std::unique_ptr<StateStore> store = OpenRocksdbStateStore(std::move(options)).value();
  NullObserver observer;
  StateRegistry registry({}, store.get(), Clock::System(), &observer);
  std::vector<StateHandle> states;
  for (int64_t i = 0; i < bench.range(0); ++i) {
    states.push_back(NewHandle(registry, absl::StrCat("bench/", i)));
  }
  int64_t updates = 0;
  const absl::Time start = absl::Now();
  while (bench.KeepRunningBatch(kUpdatesPerBatch)) {
    Load(&registry, &states, kUpdatesPerBatch).Run();
    updates += kUpdatesPerBatch;
  }
  const double rate = static_cast<double>(updates) / absl::ToDoubleSeconds(absl::Now() - start);
  bench.SetItemsProcessed(updates);
  if (bare_rate > 0) bench.counters["vs_bare"] = rate / bare_rate;
}
BENCHMARK(Combiner)->ArgName("states")->Arg(1)->Arg(1000)->UseRealTime();

}  // namespace
}  // namespace normd

BENCHMARK_MAIN();
