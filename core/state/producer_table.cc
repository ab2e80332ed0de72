#include "core/state/producer_table.h"

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
    if (static_cast<int64_t>(entries_.size()) >= limits.producers_max) {
      absl::erase_if(entries_, [&](const auto& item) {
        return now - item.second.update_time > limits.age_max;
      });
    }
    if (static_cast<int64_t>(entries_.size()) >= limits.producers_max) {
      return MakeError(Reason::kProducerTableFull,
                       absl::StrCat("producer '", producer_id, "' is new and ", entries_.size(),
                                    " producers are known, at most ", limits.producers_max,
                                    " are (none was silent for longer than ",
                                    absl::FormatDuration(limits.age_max), ")"),
                       {{"field", "producer_id"}, {"limit", absl::StrCat(limits.producers_max)}});
    }
    it = entries_.emplace(producer_id, Entry()).first;
  }
  it->second = {.sequence = sequence, .update_time = now};
  return absl::OkStatus();
}

void ProducerTable::Restore(std::string producer_id, const Entry& entry) {
  entries_[std::move(producer_id)] = entry;
}

}  // namespace normd
