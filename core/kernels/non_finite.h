#ifndef NORMD_CORE_KERNELS_NON_FINITE_H_
#define NORMD_CORE_KERNELS_NON_FINITE_H_

#include <cstddef>

namespace normd {

// The index of the first of x[0, n) that is NaN or infinite; n when all are finite.
// REQUIRES: x holds n floats (aligned to 4 bytes). Thread-safe.
size_t FindNonFinite(const float* x, size_t n);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NON_FINITE_H_
