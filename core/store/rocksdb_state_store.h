#ifndef NORMD_CORE_STORE_ROCKSDB_STATE_STORE_H_
#define NORMD_CORE_STORE_ROCKSDB_STATE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "core/base/limits.h"
#include "core/store/state_store.h"

namespace normd {

// How a RocksDB store is opened.
struct RocksdbOptions {
  // The folder; made when it is not there (its parent must be).
  std::string directory;
  // Bytes of writes held in memory before they go to a table; three such buffers at most. The
  // write-ahead log may be 4 of them long, and recovery reads 350 MB of it a second.
  int64_t write_buffer_bytes = kDefaultStoreWriteBufferBytes;
  // Bytes of table blocks kept in memory.
  int64_t block_cache_bytes = kDefaultStoreCacheBytes;
  // Bytes of the disk that commits leave free, though never more than a quarter of it: a commit
  // that would leave less is STORE_FULL. RocksDB needs them to move its buffers to tables; when it
  // runs out of space itself, commits may be kInternal, and the process must be started anew.
  int64_t reserved_bytes = kDefaultStoreReservedBytes;
  // Files kept open.
  int max_open_files = 512;
  // Open although acknowledged commits are lost (rot in the middle of the log), losing them.
  bool accept_data_loss = false;
  // Gets one line, as key=value, for each event worth an operator's eye: what recovery found, the
  // disk full and writable again, compaction stopped, a failure. Called from any thread, one call
  // at a time; it must not call the store. May be empty.
  absl::AnyInvocable<void(absl::string_view)> on_event;
};

// Opens a store in a folder, alone: a second process is refused. A torn tail of the write-ahead log
// (never acknowledged) is dropped; anything lost before it is refused with kDataLoss unless
// accept_data_loss, which keeps all that can still be read.
//
// What cannot be seen: a log that was deleted, or cut exactly between two commits, and rot in the
// very last commit, which looks like a torn one.
//
// A damaged record (RECORD_DAMAGED) keeps no other from being read or written. Compaction ends when
// it meets one, though, and tables pile up from then on: the event compaction_stopped calls for a
// backup to be restored in the coming days.
//
// Errors: kFailedPrecondition (folder in use, a file in the way, no permission, made by an
// incompatible version), kDataLoss, kResourceExhausted (STORE_FULL), kUnavailable
// (STORE_UNAVAILABLE). Each names the folder.
absl::StatusOr<std::unique_ptr<StateStore>> OpenRocksdbStateStore(RocksdbOptions options);

}  // namespace normd

#endif  // NORMD_CORE_STORE_ROCKSDB_STATE_STORE_H_
