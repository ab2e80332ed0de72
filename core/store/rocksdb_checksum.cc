// Takes the place of RocksDB's CRC-32C, which Debian's build computes by a table, whatever the
// processor can: with it, durable training of large states is a third slower
// (tests/benchmarks/README.md). RocksDB's own calls come here too, as the symbols of a program go
// before those of its libraries. CMakeLists.txt: the linker shall take this file though nobody here
// refers to it.
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
