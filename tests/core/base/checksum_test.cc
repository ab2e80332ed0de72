#include "core/base/checksum.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

// As RFC 3720 defines it, a bit a step.
uint32_t SlowCrc32c(absl::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

TEST(ChecksumTest, HasThePublishedValues) {
  EXPECT_EQ(Crc32(""), 0u);
  EXPECT_EQ(Crc32("123456789"), 0xcbf43926u);
  EXPECT_EQ(ExtendCrc32c(0, ""), 0u);
  EXPECT_EQ(ExtendCrc32c(0, "123456789"), 0xe3069283u);
  // RFC 3720, B.4.
  EXPECT_EQ(ExtendCrc32c(0, std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(ExtendCrc32c(0, std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(ChecksumTest, IsThatOfAllBytesOfAnyLengthAtAnyAddress) {
  SeededRandom random;
  std::string bytes(5000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (size_t size = 0; size < 2000; size += size < 300 ? 1 : 61) {
    const absl::string_view part = absl::string_view(bytes).substr(random() % 3000, size);
    EXPECT_EQ(Crc32(part), crc32_z(0, reinterpret_cast<const Bytef*>(part.data()), size)) << size;
    EXPECT_EQ(ExtendCrc32c(0, part), SlowCrc32c(part)) << size;
    const size_t cut = size == 0 ? 0 : random() % size;
    EXPECT_EQ(ExtendCrc32c(ExtendCrc32c(0, part.substr(0, cut)), part.substr(cut)),
              SlowCrc32c(part))
        << size << " cut at " << cut;
  }
}

TEST(ChecksumTest, TakesMoreBytesThanTheLibraryCounts) {
  constexpr size_t kBytes = (size_t{1} << 31) + 9;
  void* const zeros =
      ::mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(zeros, MAP_FAILED);
  const absl::string_view bytes(static_cast<const char*>(zeros), kBytes);
  uint32_t by_parts = 0;
  constexpr size_t kPart = size_t{100} << 20;
  for (size_t at = 0; at < kBytes; at += kPart) {
    by_parts = ExtendCrc32c(by_parts, bytes.substr(at, kPart));
  }
  EXPECT_EQ(ExtendCrc32c(0, bytes), by_parts);
  EXPECT_NE(ExtendCrc32c(0, bytes), ExtendCrc32c(0, bytes.substr(1)));
  ::munmap(zeros, kBytes);
}

}  // namespace
}  // namespace normd
