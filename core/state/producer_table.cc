#include "core/state/producer_table.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"

namespace normd {

size_t ProducerTable::IndexOf(absl::string_view producer_id) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), producer_id,
      [](const Entry& entry, absl::string_view id) { return entry.producer_id < id; });
  return static_cast<size_t>(found - entries_.begin());
}

ProducerTable::Entry& ProducerTable::EntryOf(absl::string_view producer_id) {
  const size_t index = IndexOf(producer_id);
  if (index == entries_.size() || entries_[index].producer_id != producer_id) {
    entries_.insert(entries_.begin() + static_cast<ptrdiff_t>(index), Entry())->producer_id =
        std::string(producer_id);
    id_bytes_ += producer_id.size();
  }
  return entries_[index];
}

const ProducerTable::Entry* ProducerTable::Find(absl::string_view producer_id) const {
  const size_t index = IndexOf(producer_id);
  const bool found = index < entries_.size() && entries_[index].producer_id == producer_id;
  return found ? &entries_[index] : nullptr;
}

int64_t ProducerTable::Sequence(absl::string_view producer_id) const {
  const Entry* const entry = Find(producer_id);
  return entry == nullptr ? 0 : entry->sequence;
}

absl::Status ProducerTable::Record(absl::string_view producer_id, int64_t sequence, absl::Time now,
                                   const ProducerLimits& limits) {
  if (Find(producer_id) == nullptr && !MakeRoom(now, limits)) {
    return MakeError(Reason::kProducerTableFull,
                     absl::StrCat("producer '", producer_id, "' is new and ", entries_.size(),
                                  " producers are known, at most ", limits.producers_max,
                                  " are (too few were silent for longer than ",
                                  absl::FormatDuration(limits.age_max), ")"),
                     {{"field", "producer_id"}, {"limit", absl::StrCat(limits.producers_max)}});
  }
  Entry& entry = EntryOf(producer_id);
  entry.sequence = sequence;
  entry.update_time = now;
  return absl::OkStatus();
}

void ProducerTable::Restore(absl::string_view producer_id, int64_t sequence,
                            absl::Time update_time) {
  Entry& entry = EntryOf(producer_id);
  entry.sequence = sequence;
  entry.update_time = update_time;
}

int64_t ProducerTable::MemoryBytes() const {
  return static_cast<int64_t>(entries_.capacity() * sizeof(Entry) + id_bytes_);
}

bool ProducerTable::MakeRoom(absl::Time now, const ProducerLimits& limits) {
  const auto known = static_cast<int64_t>(entries_.size());
  if (known < limits.producers_max) return true;
  const auto silent = [&](const Entry& item) { return now - item.update_time > limits.age_max; };
  if (known - std::count_if(entries_.begin(), entries_.end(), silent) >= limits.producers_max) {
    return false;
  }
  std::erase_if(entries_, [&](const Entry& item) {
    if (!silent(item)) return false;
    id_bytes_ -= item.producer_id.size();
    return true;
  });
  return true;
}

}  // namespace normd
