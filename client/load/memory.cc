#include "client/load/memory.h"

#include <malloc.h>

namespace normd::load {

void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  // As much as fits: the limit is an int for mallopt.
  mallopt(M_TRIM_THRESHOLD, 2147483647);
  mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace normd::load
