#ifndef NORMD_CORE_STATE_PRODUCER_TABLE_H_
#define NORMD_CORE_STATE_PRODUCER_TABLE_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
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
    int64_t sequence = 0;
    absl::Time update_time;
  };

  // The highest sequence decided of `producer_id`; 0 when it is not known.
  int64_t Sequence(absl::string_view producer_id) const;

  // Remembers that `sequence` was decided at `now`. A new producer makes room by forgetting those
  // silent for longer than age_max; it never makes room by forgetting another, since an update of
  // that one could then be applied twice. Errors, changing nothing: PRODUCER_TABLE_FULL.
  // REQUIRES: sequence > Sequence(producer_id).
  absl::Status Record(absl::string_view producer_id, int64_t sequence, absl::Time now,
                      const ProducerLimits& limits);

  // Puts back an entry read from disk.
  void Restore(absl::string_view producer_id, const Entry& entry);

  const absl::flat_hash_map<std::string, Entry>& entries() const { return entries_; }

  // About how many bytes of memory the entries hold. Takes the same time for any number of them.
  int64_t MemoryBytes() const;

 private:
  // Forgets those silent for too long when a new producer would not fit otherwise. False, having
  // forgotten none, when it does not fit even so.
  bool MakeRoom(absl::Time now, const ProducerLimits& limits);

  absl::flat_hash_map<std::string, Entry> entries_;
  size_t id_bytes_ = 0;  // of all their names
};

}  // namespace normd

#endif  // NORMD_CORE_STATE_PRODUCER_TABLE_H_
