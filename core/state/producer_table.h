#ifndef NORMD_CORE_STATE_PRODUCER_TABLE_H_
#define NORMD_CORE_STATE_PRODUCER_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/limits.h"

namespace normd {

// How much a table remembers.
struct ProducerLimits {
  int64_t producers_max = kDefaultProducers;
  absl::Duration age_max = kDefaultProducerAge;
};

// The highest sequence decided of each producer of one state: what makes updates exactly-once. A
// value; thread-compatible.
class ProducerTable {
 public:
  struct Entry {
    std::string producer_id;
    int64_t sequence = 0;
    absl::Time update_time;
  };

  // What is known of `producer_id`, until the next change; null when it is not known.
  const Entry* Find(absl::string_view producer_id) const;
  // The highest sequence decided of `producer_id`; 0 when it is not known.
  int64_t Sequence(absl::string_view producer_id) const;

  // Remembers that `sequence` was decided at `now`. A new producer makes room by forgetting those
  // silent for longer than age_max; it never makes room by forgetting another, since an update of
  // that one could then be applied twice. Errors, changing nothing: PRODUCER_TABLE_FULL.
  // REQUIRES: sequence > Sequence(producer_id).
  absl::Status Record(absl::string_view producer_id, int64_t sequence, absl::Time now,
                      const ProducerLimits& limits);

  // Puts back what was read from disk. Quick in the order of the entries.
  void Restore(absl::string_view producer_id, int64_t sequence, absl::Time update_time);

  // In the order of their producer_ids, bytewise.
  const std::vector<Entry>& entries() const { return entries_; }

  // About how many bytes of memory the entries hold. Takes the same time for any number of them.
  int64_t MemoryBytes() const;

 private:
  // Forgets those silent for too long when a new producer would not fit otherwise. False, having
  // forgotten none, when it does not fit even so.
  bool MakeRoom(absl::Time now, const ProducerLimits& limits);

  // The index of the first entry that does not come before `producer_id`.
  size_t IndexOf(absl::string_view producer_id) const;
  // The entry of `producer_id`, which may be new.
  Entry& EntryOf(absl::string_view producer_id);

  // Sorted, since it is copied more often than it gets new producers: with every draft of a state.
  std::vector<Entry> entries_;
  size_t id_bytes_ = 0;  // of all their names
};

}  // namespace normd

#endif  // NORMD_CORE_STATE_PRODUCER_TABLE_H_
