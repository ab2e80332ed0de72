// RocksDB computes its checksums by core/store/rocksdb_checksum.cc.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/core/store/store_test_util.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr char kExtend[] = "_ZN7rocksdb6crc32c6ExtendEjPKcm";
using Extend = uint32_t (*)(uint32_t crc, const char* data, size_t n);

// The file that holds what is at `address`.
std::string FileOf(const void* address) {
  Dl_info info = {};
  return ::dladdr(address, &info) != 0 ? info.dli_fname : "";
}

TEST(RocksdbChecksumTest, IsOursAndTheSame) {
  const TempFolder folder;
  ASSERT_NE(OpenOrDie(folder.Child("data")), nullptr) << "so that RocksDB is loaded";
  // What a call within any library finds, and what is behind it in the library.
  void* const found = ::dlsym(RTLD_DEFAULT, kExtend);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(FileOf(found), FileOf(reinterpret_cast<void*>(&FileOf)));
  void* const replaced = ::dlsym(RTLD_NEXT, kExtend);
  ASSERT_NE(replaced, nullptr) << "RocksDB has another function by now";
  ASSERT_NE(replaced, found);

  const auto ours = reinterpret_cast<Extend>(found);
  const auto theirs = reinterpret_cast<Extend>(replaced);
  SeededRandom random;
  std::string bytes(40'000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (int i = 0; i < 300; ++i) {
    const size_t at = random() % 1000;
    const size_t size = i < 200 ? static_cast<size_t>(i) : random() % 39'000;
    const auto crc = static_cast<uint32_t>(random());
    EXPECT_EQ(ours(crc, bytes.data() + at, size), theirs(crc, bytes.data() + at, size)) << size;
  }
}

}  // namespace
}  // namespace normd
