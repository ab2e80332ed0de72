#include "core/registry/state_cache.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "absl/hash/hash.h"
#include "core/base/prefetch.h"

namespace normd {
namespace {

// What an entry costs beside its value: the entry, its slot and its place in the list.
constexpr int64_t kEntryBytes = 512;

int64_t EntryBytes(const StateEntry& entry) {
  const std::shared_ptr<const NormState> state = entry.published();
  return kEntryBytes + static_cast<int64_t>(entry.name().size()) +
         (state == nullptr ? 0 : state->MemoryBytes());
}

}  // namespace

StateCache::StateCache(int64_t bytes_max, MemoryBudget* memory)
    : bytes_max_(bytes_max), memory_(memory) {}

StateCache::~StateCache() { Charge(-bytes()); }

std::shared_ptr<StateEntry> StateCache::Find(absl::string_view name) {
  Shard& shard = shards_[ShardOf(name)];
  absl::MutexLock lock(&shard.mutex);
  return FindLocked(shard, name);
}

void StateCache::PrefetchStates(absl::Span<const absl::string_view> names, StateUse use) {
  for (const absl::string_view name : names) {
    Shard& shard = shards_[ShardOf(name)];
    absl::MutexLock lock(&shard.mutex);
    shard.slots.prefetch(name);
  }
  std::vector<std::shared_ptr<StateEntry>> entries;
  entries.reserve(names.size());
  for (const absl::string_view name : names) {
    if (std::shared_ptr<StateEntry> entry = Find(name); entry != nullptr) {
      Prefetch(entry.get(), sizeof(StateEntry));
      entries.push_back(std::move(entry));
    }
  }
  for (const std::shared_ptr<StateEntry>& entry : entries) entry->PrefetchPublished();
  for (const std::shared_ptr<StateEntry>& entry : entries) entry->PrefetchArrays(use);
}

std::shared_ptr<StateEntry> StateCache::FindOrWait(absl::string_view name, Waiter& waiter,
                                                   bool* must_load) {
  Shard& shard = shards_[ShardOf(name)];
  absl::MutexLock lock(&shard.mutex);
  *must_load = false;
  if (std::shared_ptr<StateEntry> entry = FindLocked(shard, name); entry != nullptr) return entry;
  std::vector<Waiter>& waiters = shard.loading[std::string(name)];
  *must_load = waiters.empty();
  waiters.push_back(std::move(waiter));
  return nullptr;
}

void StateCache::Finish(absl::string_view name,
                        absl::StatusOr<std::shared_ptr<StateEntry>> loaded) {
  const size_t index = ShardOf(name);
  Shard& shard = shards_[index];
  std::vector<Waiter> waiters;
  {
    absl::MutexLock lock(&shard.mutex);
    auto node = shard.loading.extract(name);
    waiters = std::move(node.mapped());
    if (loaded.ok()) {
      const absl::string_view key = (*loaded)->name();
      shard.recent.push_front(key);
      const int64_t bytes = EntryBytes(**loaded);
      shard.slots.emplace(key,
                          Slot{.entry = *loaded, .recent = shard.recent.begin(), .bytes = bytes});
      Charge(bytes);
    }
  }
  Shrink(index);
  for (Waiter& waiter : waiters) waiter(loaded);
}

void StateCache::Recharge(absl::string_view name) {
  const size_t index = ShardOf(name);
  Shard& shard = shards_[index];
  {
    absl::MutexLock lock(&shard.mutex);
    const auto it = shard.slots.find(name);
    if (it == shard.slots.end()) return;
    const int64_t bytes = EntryBytes(*it->second.entry);
    Charge(bytes - std::exchange(it->second.bytes, bytes));
  }
  Shrink(index);
}

void StateCache::GiveWay() {
  if (!memory_->IsExceeded() || giving_way_.exchange(true)) return;
  Shrink(gives_way_next_.fetch_add(1) % kShards);
  giving_way_ = false;
}

size_t StateCache::ShardOf(absl::string_view name) {
  static_assert(std::has_single_bit(kShards));
  // The highest bits: by the lower ones the tables of the shards tell their entries apart.
  constexpr int kShardBits = std::countr_zero(kShards);
  return absl::HashOf(name) >> (std::numeric_limits<size_t>::digits - kShardBits);
}

std::shared_ptr<StateEntry> StateCache::FindLocked(Shard& shard, absl::string_view name) {
  const auto it = shard.slots.find(name);
  if (it == shard.slots.end()) return nullptr;
  it->second.used = true;
  return it->second.entry;
}

void StateCache::Charge(int64_t bytes) {
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
  memory_->Add(MemoryUse::kCache, bytes);
}

void StateCache::Shrink(size_t first) {
  const int64_t bytes_max = std::min(bytes_max_, memory_->CacheBytesMax());
  for (size_t i = 0; i < kShards && bytes() > bytes_max; ++i) {
    Evict(shards_[(first + i) % kShards], bytes_max);
  }
}

void StateCache::Evict(Shard& shard, int64_t bytes_max) {
  // So many entries in use are passed over at most, that a lookup stays quick.
  constexpr int kPassedOverMax = 64;
  std::vector<std::shared_ptr<StateEntry>> evicted;  // destroyed without the lock
  absl::MutexLock lock(&shard.mutex);
  int passed_over = 0;
  while (bytes() > bytes_max && !shard.recent.empty() && passed_over < kPassedOverMax) {
    const auto slot = shard.slots.find(shard.recent.back());
    // Nobody can take a new hold while the lock is held.
    const bool held = slot->second.entry.use_count() > 1;
    if (held) ++passed_over;
    if (std::exchange(slot->second.used, false) || held) {
      shard.recent.splice(shard.recent.begin(), shard.recent, slot->second.recent);
      continue;
    }
    Charge(-slot->second.bytes);
    evicted.push_back(std::move(slot->second.entry));
    shard.slots.erase(slot);
    shard.recent.pop_back();
  }
}

}  // namespace normd
