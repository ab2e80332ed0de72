#include "core/registry/state_cache.h"

#include <utility>

#include "absl/hash/hash.h"

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

StateCache::StateCache(int64_t bytes_max)
    : shard_bytes_max_(bytes_max / static_cast<int64_t>(kShards)) {}

std::shared_ptr<StateEntry> StateCache::Find(absl::string_view name) {
  Shard& shard = ShardOf(name);
  absl::MutexLock lock(&shard.mutex);
  return FindLocked(shard, name);
}

std::shared_ptr<StateEntry> StateCache::FindOrWait(absl::string_view name, Waiter& waiter,
                                                   bool* must_load) {
  Shard& shard = ShardOf(name);
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
  Shard& shard = ShardOf(name);
  std::vector<Waiter> waiters;
  std::vector<std::shared_ptr<StateEntry>> evicted;  // destroyed without the lock
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
      shard.bytes += bytes;
      Evict(shard, evicted);
    }
  }
  for (Waiter& waiter : waiters) waiter(loaded);
}

void StateCache::Recharge(absl::string_view name) {
  Shard& shard = ShardOf(name);
  std::vector<std::shared_ptr<StateEntry>> evicted;
  absl::MutexLock lock(&shard.mutex);
  const auto it = shard.slots.find(name);
  if (it == shard.slots.end()) return;
  const int64_t bytes = EntryBytes(*it->second.entry);
  shard.bytes += bytes - std::exchange(it->second.bytes, bytes);
  Evict(shard, evicted);
}

int64_t StateCache::bytes() const {
  int64_t bytes = 0;
  for (const Shard& shard : shards_) {
    absl::MutexLock lock(&shard.mutex);
    bytes += shard.bytes;
  }
  return bytes;
}

std::shared_ptr<StateEntry> StateCache::FindLocked(Shard& shard, absl::string_view name) {
  const auto it = shard.slots.find(name);
  if (it == shard.slots.end()) return nullptr;
  shard.recent.splice(shard.recent.begin(), shard.recent, it->second.recent);
  return it->second.entry;
}

StateCache::Shard& StateCache::ShardOf(absl::string_view name) {
  return shards_[absl::HashOf(name) % kShards];
}

void StateCache::Evict(Shard& shard, std::vector<std::shared_ptr<StateEntry>>& evicted) {
  // Entries in use are passed over; so many at most, that a lookup stays quick.
  constexpr int kPassedOverMax = 64;
  int passed_over = 0;
  auto it = shard.recent.end();
  while (shard.bytes > shard_bytes_max_ && it != shard.recent.begin() &&
         passed_over < kPassedOverMax) {
    --it;
    const auto slot = shard.slots.find(*it);
    // Nobody can take a new hold while the lock is held.
    if (slot->second.entry.use_count() > 1) {
      ++passed_over;
      continue;
    }
    shard.bytes -= slot->second.bytes;
    evicted.push_back(std::move(slot->second.entry));
    shard.slots.erase(slot);
    it = shard.recent.erase(it);
  }
}

}  // namespace normd
