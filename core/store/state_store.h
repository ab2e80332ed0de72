#ifndef NORMD_CORE_STORE_STATE_STORE_H_
#define NORMD_CORE_STORE_STATE_STORE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normd {

// The bytes kept under one name, and their version.
struct StoredRecord {
  std::string name;
  int64_t revision = 0;  // >= 1
  std::string data;
};

// One change of one name: from `expected_revision` to `revision`.
struct StoreMutation {
  std::string name;  // not empty
  // The version that must be there; 0: nothing may be there.
  int64_t expected_revision = 0;
  // The version that is there afterwards, above expected_revision. Not used by a delete.
  int64_t revision = 0;
  // The new bytes; nothing deletes the name.
  std::optional<std::string> data;
};

// Keeps bytes by name and version, for ever; knows nothing of what the bytes mean. Thread-safe;
// every call may wait for a disk.
//
// Errors of every call: STORE_UNAVAILABLE (kUnavailable) when nothing was changed and it can be
// tried again; INTERNAL_ERROR (kInternal) when the disk failed in a way that leaves what is stored
// unknown: the caller must acknowledge nothing more and end the process.
class StateStore {
 public:
  virtual ~StateStore() = default;

  // The record of `name`. Errors: STATE_NOT_FOUND; RECORD_DAMAGED (kDataLoss, metadata "name") when
  // the bytes on disk do not pass the store's own checks.
  virtual absl::StatusOr<StoredRecord> Load(absl::string_view name) const = 0;

  // Makes all changes or none; when it returns OK they survive a power loss. So that a commit of
  // unknown outcome can be tried again, a mutation counts as made when the record already has
  // `revision` and `data`, or, for a delete, when nothing is there. A damaged record may be
  // deleted, and replaced by who expects a revision: that one knows what it held, and the disk does
  // not any more. Errors, all but the last with nothing changed:
  //   REVISION_CONFLICT when a record is not at its expected_revision (metadata "name");
  //   RECORD_DAMAGED when nothing is expected and what is there cannot be read (metadata "name");
  //   STORE_FULL (kResourceExhausted) when the disk has no space: reads go on, and the same commit
  //     may be tried again; after a crash it may turn out to have been made.
  // Quickest when they come in the order of their names.
  // REQUIRES: no name stands in `mutations` twice.
  virtual absl::Status Commit(absl::Span<const StoreMutation> mutations) = 0;

  // The records whose names begin with `prefix` and are greater than `after` (bytewise; empty: from
  // the first), in order; at most `records_max` records, and none beyond `bytes_max` bytes of data
  // (but always one when there is one).
  //
  // Never passes over a damaged record in silence: the list ends before the damage, and a list that
  // begins at the damage is RECORD_DAMAGED (metadata "after": the last name before it). The names
  // behind it can still be loaded, or listed by a longer prefix.
  // REQUIRES: records_max >= 1.
  virtual absl::StatusOr<std::vector<StoredRecord>> List(absl::string_view prefix,
                                                         absl::string_view after,
                                                         int64_t records_max,
                                                         int64_t bytes_max) const = 0;
};

}  // namespace normd

#endif  // NORMD_CORE_STORE_STATE_STORE_H_
