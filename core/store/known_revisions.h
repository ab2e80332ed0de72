#ifndef NORMD_CORE_STORE_KNOWN_REVISIONS_H_
#define NORMD_CORE_STORE_KNOWN_REVISIONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace normd {

// The revisions of names that were read or written lately, so that a commit need not read a record
// to know that it is at the expected one. Holds as many as it has room for; a newer name takes the
// place of an older one. Names are told apart by 64 bits of hash: two that share them and a
// revision, one in 2^64, could at worst be taken for each other where the caller expects a revision
// that is not there. Thread-safe.
class KnownRevisions {
 public:
  // REQUIRES: places is a power of two, kMutexes * kPlacesOfASet at least.
  explicit KnownRevisions(size_t places);

  // Whether the record of `name` is known to be at `revision` (0: there is none).
  bool IsAt(absl::string_view name, int64_t revision) const;

  // A read: take the ticket, read, then tell what was found. It is forgotten when somebody has
  // begun or ended a write of the name in between.
  uint64_t BeginRead(absl::string_view name) const;
  void EndRead(absl::string_view name, uint64_t ticket, int64_t revision);

  // A write: nothing is known of the name from the beginning to the end. One at a time for a name.
  void BeginWrite(absl::string_view name);
  void EndWrite(absl::string_view name, int64_t revision);

 private:
  static constexpr size_t kMutexes = 64;
  static constexpr int64_t kUnknown = -1;

  struct Place {
    uint64_t hash = 0;
    int64_t revision = kUnknown;
  };

  // Where the names of one index are: the one that was told last comes first.
  static constexpr size_t kPlacesOfASet = 4;
  struct Set {
    uint64_t writes = 0;  // begun and ended, of all names that have this set
    std::array<Place, kPlacesOfASet> places;

    void Keep(uint64_t hash, int64_t revision);
  };

  size_t IndexOf(uint64_t hash) const { return hash & (sets_.size() - 1); }
  absl::Mutex& MutexOf(size_t index) const { return mutexes_[index % kMutexes]; }

  mutable std::array<absl::Mutex, kMutexes> mutexes_;
  // Each guarded by its MutexOf.
  std::vector<Set> sets_;
};

}  // namespace normd

#endif  // NORMD_CORE_STORE_KNOWN_REVISIONS_H_
