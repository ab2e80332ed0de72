#ifndef NORMD_CORE_STORE_WRITE_AHEAD_LOG_H_
#define NORMD_CORE_STORE_WRITE_AHEAD_LOG_H_

#include <string>

#include "absl/status/statusor.h"

namespace normd {

// What CheckWriteAheadLog found.
enum class LogCondition {
  kWhole,       // every record passes its checksum
  kTornTail,    // damage, and no record begins after it: a write that never ended
  kRecordLost,  // damage, and a record begins after it: what was written there had been synced
};

// Reads one of RocksDB's write-ahead logs and says whether damage in it can have lost a synced
// commit. Needed beside RocksDB's recovery: this drops the rest of a 32 KiB block after a damaged
// record, so that in the last block it takes any damage for a torn tail, whatever follows.
//
// Every commit is synced before the next record begins, so only the last record can be torn. Rot in
// the very last record cannot be told from a torn one and is taken for it.
// Errors: STORE_UNAVAILABLE when the file cannot be read.
absl::StatusOr<LogCondition> CheckWriteAheadLog(const std::string& path);

}  // namespace normd

#endif  // NORMD_CORE_STORE_WRITE_AHEAD_LOG_H_
