#ifndef NORMD_CORE_STORE_DATA_FOLDER_H_
#define NORMD_CORE_STORE_DATA_FOLDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normd {

// The format of the folder that this code reads and writes. It grows by one when older code could
// no longer read what is written; numbers are never used twice.
//
//   1: RocksDB with the default column family alone; key: the name; value: see
//      record_value.h.
inline constexpr int64_t kDataFolderFormat = 1;

// The file in a data folder that names its format: "normd data folder, format 1\n".
inline constexpr absl::string_view kFormatFileName = "NORMD_FORMAT";

// A data folder, held by this process alone for as long as the object lives. The lock is a flock()
// on the format file, so it ends with the process however that ends. Thread-compatible.
class DataFolder {
 public:
  // Makes the folder (not its parent) and its format file when they are not there, durably, and
  // locks it. Changes nothing in a folder that it refuses. Errors: kFailedPrecondition (parent
  // missing, a file in the way, no permission, folder in use by another process, made by a newer
  // version or by another program), kDataLoss (files of the store are missing), kResourceExhausted
  // (STORE_FULL), kUnavailable (any other failure of the disk).
  static absl::StatusOr<DataFolder> Open(const std::string& path);

  DataFolder(DataFolder&& other) noexcept;
  DataFolder& operator=(DataFolder&&) = delete;
  ~DataFolder();

  const std::string& path() const { return path_; }

  // OK when the disk has room for `bytes` and then `reserved_bytes` (a quarter of the disk at most;
  // 0: does not ask). Errors: STORE_FULL, STORE_UNAVAILABLE.
  absl::Status CheckSpace(int64_t bytes, int64_t reserved_bytes) const;

  // The error of a folder that has lost acknowledged commits, kDataLoss: what is to be done.
  absl::Status CommitsLost(absl::string_view why) const;

  // The paths of RocksDB's write-ahead logs, oldest first.
  absl::StatusOr<std::vector<std::string>> WriteAheadLogs() const;

 private:
  DataFolder(std::string path, int lock_fd);

  // Constant after construction.
  std::string path_;
  int lock_fd_;
};

}  // namespace normd

#endif  // NORMD_CORE_STORE_DATA_FOLDER_H_
