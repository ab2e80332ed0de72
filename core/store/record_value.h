#ifndef NORMD_CORE_STORE_RECORD_VALUE_H_
#define NORMD_CORE_STORE_RECORD_VALUE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace normd {

// A record on disk: the key is the name, the value is
//   0..7  revision, 64 bits, little-endian, >= 1
//   8..   data
// RocksDB's checksums guard both, in the log and in the tables.

// The first bytes of a value. REQUIRES: revision >= 1.
std::string RevisionBytes(int64_t revision);

// The revision of a value; 0 when the value is no record.
int64_t RevisionOf(absl::string_view value);

// The data of a value. REQUIRES: RevisionOf(value) > 0.
absl::string_view DataOf(absl::string_view value);

// The record of `name` is damaged, RECORD_DAMAGED: for a reason that is told, or because its value
// is no record.
absl::Status ValueDamaged(absl::string_view name, absl::string_view why);
absl::Status NoRevision(absl::string_view name, absl::string_view value);

// The first key behind all that begin with `prefix`; empty when there is none.
std::string EndOfPrefix(absl::string_view prefix);

}  // namespace normd

#endif  // NORMD_CORE_STORE_RECORD_VALUE_H_
