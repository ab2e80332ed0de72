#include "tests/core/store/store_test_util.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace normd {

TempFolder::TempFolder() {
  std::string path = testing::TempDir() + "/normd_store_XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    std::cerr << "cannot make " << path << std::endl;
    std::abort();
  }
  path_ = std::filesystem::canonical(path).string();
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempFolder::Child(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

StoreMutation Put(absl::string_view name, int64_t expected_revision, int64_t revision,
                  absl::string_view data) {
  return {std::string(name), expected_revision, revision, std::string(data)};
}

StoreMutation Delete(absl::string_view name, int64_t expected_revision) {
  return {std::string(name), expected_revision, 0, std::nullopt};
}

std::string Describe(const std::vector<StoredRecord>& records) {
  std::string text;
  for (const StoredRecord& record : records) {
    absl::StrAppend(&text, text.empty() ? "" : " ", record.name, "@", record.revision, "=",
                    record.data);
  }
  return text;
}

std::vector<StoredRecord> ListAll(const StateStore& store) {
  std::vector<StoredRecord> all;
  while (true) {
    absl::StatusOr<std::vector<StoredRecord>> page =
        store.List("", all.empty() ? "" : all.back().name, 7, std::numeric_limits<int64_t>::max());
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok() || page->empty()) return all;
    std::move(page->begin(), page->end(), std::back_inserter(all));
  }
}

RocksdbOptions SmallOptions(const std::string& directory) {
  RocksdbOptions options;
  options.directory = directory;
  options.write_buffer_bytes = kMiB;
  options.block_cache_bytes = kMiB;
  return options;
}

std::unique_ptr<StateStore> OpenOrDie(const std::string& directory) {
  absl::StatusOr<std::unique_ptr<StateStore>> store =
      OpenRocksdbStateStore(SmallOptions(directory));
  if (!store.ok()) {
    std::cerr << store.status() << std::endl;
    std::abort();
  }
  return *std::move(store);
}

std::string WriterData(absl::string_view name, int64_t revision) {
  std::string data = absl::StrCat(name, "#", revision, "#");
  data.resize(100 + static_cast<size_t>(revision * 37 % 3000), static_cast<char>(revision));
  return data;
}

std::vector<std::string> FilesEndingWith(const std::string& directory, absl::string_view suffix) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string path = entry.path().string();
    if (absl::EndsWith(path, suffix) && entry.file_size() > 0) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string ReadLog(const std::string& path) {
  std::string log = ReadFile(path);
  log.erase(log.find_last_not_of('\0') + 1);
  return log;
}

void WriteFile(const std::string& path, absl::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(file.flush()) << path;
}

void FlipBit(const std::string& path, size_t at) {
  std::string bytes = ReadFile(path);
  ASSERT_LT(at, bytes.size()) << path;
  bytes[at] = static_cast<char>(bytes[at] ^ 4);
  WriteFile(path, bytes);
}

}  // namespace normd
