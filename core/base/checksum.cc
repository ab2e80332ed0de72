#include "core/base/checksum.h"

#include <isa-l/crc.h>

#include <cstddef>

namespace normd {

uint32_t Crc32(absl::string_view bytes) {
  return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes) {
  // The library counts in int, and leaves both inversions to its caller.
  constexpr size_t kPartMax = size_t{1} << 30;
  crc = ~crc;
  while (!bytes.empty()) {
    const absl::string_view part = bytes.substr(0, kPartMax);
    // It does not write, whatever its parameter says.
    auto* const data = reinterpret_cast<unsigned char*>(const_cast<char*>(part.data()));
    crc = crc32_iscsi(data, static_cast<int>(part.size()), crc);
    bytes.remove_prefix(part.size());
  }
  return ~crc;
}

}  // namespace normd
