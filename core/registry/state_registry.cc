#include "core/registry/state_registry.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/names.h"
#include "core/base/status_macros.h"
#include "core/state/state_codec.h"

namespace normd {

class StateRegistry::CacheKeeper final : public RegistryObserver {
 public:
  CacheKeeper(StateCache* cache, RegistryObserver* next) : cache_(cache), next_(next) {}

  void OnPublished(const std::string& name, const std::shared_ptr<const NormState>& before,
                   const std::shared_ptr<const NormState>& state) override {
    const auto bytes = [](const std::shared_ptr<const NormState>& value) {
      return value == nullptr ? 0 : value->MemoryBytes();
    };
    if (bytes(before) != bytes(state)) cache_->Recharge(name);
    next_->OnPublished(name, before, state);
  }
  void OnStoreBlocked(const absl::Status& status) override { next_->OnStoreBlocked(status); }
  void OnStoreUnblocked() override { next_->OnStoreUnblocked(); }
  void OnFatal(const absl::Status& status) override { next_->OnFatal(status); }

 private:
  StateCache* const cache_;
  RegistryObserver* const next_;
};

StateRegistry::StateRegistry(const Options& options, StateStore* store, const Clock* clock,
                             RegistryObserver* observer)
    : store_(store),
      cache_(options.cache_bytes_max, options.memory),
      cache_keeper_(std::make_unique<CacheKeeper>(&cache_, observer)) {
  WriteCombiner::Options write = options.write;
  write.pending_updates_max =
      std::max<int64_t>(1, write.pending_updates_max / options.write_shards);
  // An eighth is for what is kept for the next commits, of two kinds; the rest is for drafts.
  const int64_t share = options.memory->share(MemoryUse::kWrites);
  const int64_t idle_bytes = std::min(write.idle_bytes_max, share / 16);
  write.idle_bytes_max = idle_bytes / options.write_shards;
  write.dirty_bytes_max =
      std::min(write.dirty_bytes_max, (share - 2 * idle_bytes) / kCopiesOfADraft);
  write.dirty_bytes_max = std::max<int64_t>(1, write.dirty_bytes_max / options.write_shards);
  for (int i = 0; i < options.write_shards; ++i) {
    combiners_.push_back(
        std::make_unique<WriteCombiner>(write, options.memory, store, clock, cache_keeper_.get()));
  }
  loaders_ = std::make_unique<ThreadPool>(options.loader_threads);
}

StateRegistry::~StateRegistry() { Shutdown(absl::ZeroDuration()); }

void StateRegistry::Acquire(absl::string_view name, AcquireCallback done) {
  if (std::optional<StateHandle> handle = TryAcquire(name); handle.has_value()) {
    done(*std::move(handle));
    return;
  }
  if (absl::Status status = CheckStateName(name); !status.ok()) {
    done(std::move(status));
    return;
  }
  StateCache::Waiter waiter =
      [done = std::move(done)](absl::StatusOr<std::shared_ptr<StateEntry>> entry) mutable {
        if (!entry.ok()) {
          done(std::move(entry).status());
        } else {
          done(StateHandle(*std::move(entry)));
        }
      };
  bool must_load = false;
  if (std::shared_ptr<StateEntry> entry = cache_.FindOrWait(name, waiter, &must_load);
      entry != nullptr) {
    waiter(std::move(entry));
  } else if (must_load) {
    loaders_->Schedule([this, name = std::string(name)] { cache_.Finish(name, Load(name)); });
  }
}

std::optional<StateHandle> StateRegistry::TryAcquire(absl::string_view name) {
  cache_.GiveWay();
  std::shared_ptr<StateEntry> entry = cache_.Find(name);
  if (entry == nullptr) return std::nullopt;
  return StateHandle(std::move(entry));
}

void StateRegistry::Submit(const StateHandle& handle, std::unique_ptr<StateChange> change) {
  const size_t shard = absl::HashOf(absl::string_view(handle.name())) % combiners_.size();
  combiners_[shard]->Submit(handle.entry_, std::move(change));
}

void StateRegistry::List(absl::string_view prefix, absl::string_view after, int64_t states_max,
                         ListCallback done) {
  loaders_->Schedule([this, prefix = std::string(prefix), after = std::string(after), states_max,
                      done = std::move(done)]() mutable {
    absl::StatusOr<std::vector<StoredRecord>> records =
        store_->List(prefix, after, states_max, kPageBytesMax);
    if (!records.ok()) {
      done(std::move(records).status());
      return;
    }
    StatePage page;
    for (const StoredRecord& record : *records) {
      absl::StatusOr<NormState> state = DecodeState(record.name, record.revision, record.data);
      if (state.ok()) {
        page.states.push_back(std::make_shared<const NormState>(*std::move(state)));
      } else {
        page.damaged.push_back(record.name);
      }
    }
    if (!records->empty()) {
      const absl::StatusOr<std::vector<StoredRecord>> next =
          store_->List(prefix, records->back().name, 1, 1);
      // What is wrong behind this page is told with the next one.
      if (!next.ok() || !next->empty()) page.next_after = records->back().name;
    }
    done(std::move(page));
  });
}

void StateRegistry::Shutdown(absl::Duration patience) {
  for (const std::unique_ptr<WriteCombiner>& combiner : combiners_) combiner->Shutdown(patience);
}

absl::StatusOr<std::shared_ptr<StateEntry>> StateRegistry::Load(const std::string& name) const {
  absl::StatusOr<StoredRecord> record = store_->Load(name);
  if (!record.ok()) {
    if (GetReason(record.status()) != Reason::kStateNotFound) return std::move(record).status();
    return std::make_shared<StateEntry>(name, nullptr);
  }
  NORMD_ASSIGN_OR_RETURN(NormState state, DecodeState(name, record->revision, record->data));
  return std::make_shared<StateEntry>(name, std::make_shared<const NormState>(std::move(state)));
}

absl::Status StateNotFound(absl::string_view name) {
  return MakeError(Reason::kStateNotFound, absl::StrCat("state '", name, "' does not exist"),
                   {{"name", name}});
}

absl::Status OfState(const absl::Status& status, absl::string_view name) {
  return Prefixed(status, absl::StrCat("state '", name, "': "));
}

}  // namespace normd
