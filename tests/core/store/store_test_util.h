#ifndef NORMD_TESTS_CORE_STORE_STORE_TEST_UTIL_H_
#define NORMD_TESTS_CORE_STORE_STORE_TEST_UTIL_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/store/rocksdb_state_store.h"
#include "core/store/state_store.h"

namespace normd {

// A fresh folder, removed with all that is in it.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string Child(absl::string_view name) const;

 private:
  std::string path_;
};

StoreMutation Put(absl::string_view name, int64_t expected_revision, int64_t revision,
                  absl::string_view data);
StoreMutation Delete(absl::string_view name, int64_t expected_revision);

// "name@revision=data" of each record, joined by a space.
std::string Describe(const std::vector<StoredRecord>& records);

// All records of the store, page by page.
std::vector<StoredRecord> ListAll(const StateStore& store);

// The options of a small store in `directory`.
RocksdbOptions SmallOptions(const std::string& directory);

// Opens a small store; a failure ends the test binary.
std::unique_ptr<StateStore> OpenOrDie(const std::string& directory);

// The data that store_writer commits under `name` at `revision`.
std::string WriterData(absl::string_view name, int64_t revision);

// The files in `directory` whose names end with `suffix` and are not empty, in order of name.
std::vector<std::string> FilesEndingWith(const std::string& directory, absl::string_view suffix);

std::string ReadFile(const std::string& path);
// What has been written of a write-ahead log that is still open: the file without the zeros behind.
// REQUIRES: no record ends with a zero.
std::string ReadLog(const std::string& path);
void WriteFile(const std::string& path, absl::string_view bytes);
void FlipBit(const std::string& path, size_t at);

}  // namespace normd

#endif  // NORMD_TESTS_CORE_STORE_STORE_TEST_UTIL_H_
