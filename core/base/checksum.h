#ifndef NORMD_CORE_BASE_CHECKSUM_H_
#define NORMD_CORE_BASE_CHECKSUM_H_

#include <cstdint>

#include "absl/strings/string_view.h"

// Checksums, computed by what the processor has for them. Thread-safe.
namespace normd {

// The CRC-32 of `bytes` (RFC 1952, section 8; zlib's crc32).
uint32_t Crc32(absl::string_view bytes);

// The CRC-32C (RFC 3720, section 12.1) of some bytes, of which `crc` is the CRC-32C, and then
// `bytes`. That of no bytes is 0.
uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes);

}  // namespace normd

#endif  // NORMD_CORE_BASE_CHECKSUM_H_
