#ifndef NORMD_CORE_BASE_PREFETCH_H_
#define NORMD_CORE_BASE_PREFETCH_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/optimization.h"

namespace normd {

// Asks the processor for `bytes` of memory from `address` on, which are then in its caches when
// they are read a little later. Changes nothing; any address may be given, null too. Of a long
// array the beginning is enough: the processor fetches ahead where it sees one read.
inline void Prefetch(const void* address, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const uintptr_t end = begin + bytes;
  for (uintptr_t at = begin - begin % ABSL_CACHELINE_SIZE; at < end; at += ABSL_CACHELINE_SIZE) {
    __builtin_prefetch(reinterpret_cast<const void*>(at));
  }
}

}  // namespace normd

#endif  // NORMD_CORE_BASE_PREFETCH_H_
