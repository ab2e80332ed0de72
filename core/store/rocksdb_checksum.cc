// Takes the place of RocksDB's CRC-32C, which Debian builds for processors that have no instruction
// for it: 1 GB/s, where all else that RocksDB does to a record of its log is faster. Its own calls
// come here too, as the symbols of a program go before those of its libraries
// (CMakeLists.txt: the linker shall take this file though nobody here refers to it).
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "core/base/checksum.h"

namespace rocksdb::crc32c {

// As RocksDB's util/crc32c.h has it.
uint32_t Extend(uint32_t init_crc, const char* data, size_t n);

uint32_t Extend(uint32_t init_crc, const char* data, size_t n) {
  return normd::ExtendCrc32c(init_crc, absl::string_view(data, n));
}

}  // namespace rocksdb::crc32c
