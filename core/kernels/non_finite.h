#ifndef NORMD_CORE_KERNELS_NON_FINITE_H_
#define NORMD_CORE_KERNELS_NON_FINITE_H_

#include <cstddef>

#include "core/tensor/data_type.h"

namespace normd {

// The index of the first of x[0, n) that is NaN or infinite; n when all are finite.
// T: float, double, Float16, Bfloat16.
// REQUIRES: x holds n elements, at any address. Thread-safe.
template <typename T>
size_t FindNonFinite(const T* x, size_t n);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NON_FINITE_H_
