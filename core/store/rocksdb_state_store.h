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
  int64_t write_buffer_bytes = 64 * kMiB;
  // Bytes of table blocks kept in memory.
  int64_t block_cache_bytes = 64 * kMiB;
  // Files kept open.
  int max_open_files = 512;
  // Open although acknowledged commits are lost (rot in the middle of the log), losing them.
  bool accept_data_loss = false;
  // Gets one line an event worth an operator's eye (what recovery found); may be empty.
  absl::AnyInvocable<void(absl::string_view)> on_event;
};

// Opens a store in a folder, alone: a second process is refused. A torn tail of the write-ahead log
// (never acknowledged) is dropped; anything lost before it is refused with kDataLoss unless
// accept_data_loss. Errors: kFailedPrecondition (folder in use, a file in the way, no permission, made
// by an incompatible version), kDataLoss.
absl::StatusOr<std::unique_ptr<StateStore>> OpenRocksdbStateStore(RocksdbOptions options);

}  // namespace normd

#endif  // NORMD_CORE_STORE_ROCKSDB_STATE_STORE_H_
