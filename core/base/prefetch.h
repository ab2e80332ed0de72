#ifndef NORMD_CORE_BASE_PREFETCH_H_
#define NORMD_CORE_BASE_PREFETCH_H_

#include <cstddef>

#include "absl/base/optimization.h"

namespace normd {

// Asks the processor for `bytes` of memory from `address` on, which are then in its caches when
// they are read a little later. Changes nothing; any address may be given. Of a long array the
// beginning is enough: the processor fetches ahead where it sees one read.
inline void Prefetch(const void* address, size_t bytes) {
  const auto* const begin = static_cast<const char*>(address);
  for (size_t at = 0; at < bytes; at += ABSL_CACHELINE_SIZE) __builtin_prefetch(begin + at);
}

}  // namespace normd

#endif  // NORMD_CORE_BASE_PREFETCH_H_
