#include "core/state/producer_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"

namespace normd {

int64_t ProducerTable::Sequence(absl::string_view producer_id) const {
  const auto it = entries_.find(producer_id);
  return it == entries_.end() ? 0 : it->second.sequence;
}

absl::Status ProducerTable::Record(absl::string_view producer_id, int64_t sequence, absl::Time now,
                                   const ProducerLimits& limits) {
  auto it = entries_.find(producer_id);
  if (it == entries_.end()) {
    if (!MakeRoom(now, limits)) {
      return MakeError(Reason::kProducerTableFull,
                       absl::StrCat("producer '", producer_id, "' is new and ", entries_.size(),
                                    " producers are known, at most ", limits.producers_max,
                                    " are (too few were silent for longer than ",
                                    absl::FormatDuration(limits.age_max), ")"),
                       {{"field", "producer_id"}, {"limit", absl::StrCat(limits.producers_max)}});
    }
    it = entries_.emplace(producer_id, Entry()).first;
    id_bytes_ += producer_id.size();
  }
  it->second = {.sequence = sequence, .update_time = now};
  return absl::OkStatus();
}

void ProducerTable::Restore(absl::string_view producer_id, const Entry& entry) {
  if (entries_.insert_or_assign(producer_id, entry).second) id_bytes_ += producer_id.size();
}

int64_t ProducerTable::MemoryBytes() const {
  // A slot and its control byte.
  constexpr size_t kSlotBytes = sizeof(std::pair<const std::string, Entry>) + 1;
  return static_cast<int64_t>(entries_.capacity() * kSlotBytes + id_bytes_);
}

bool ProducerTable::MakeRoom(absl::Time now, const ProducerLimits& limits) {
  const auto known = static_cast<int64_t>(entries_.size());
  if (known < limits.producers_max) return true;
  const auto silent = [&](const auto& item) {
    return now - item.second.update_time > limits.age_max;
  };
  if (known - std::count_if(entries_.begin(), entries_.end(), silent) >= limits.producers_max) {
    return false;
  }
  absl::erase_if(entries_, [&](const auto& item) {
    if (!silent(item)) return false;
    id_bytes_ -= item.first.size();
    return true;
  });
  return true;
}

}  // namespace normd
