#ifndef NORMD_CORE_TENSOR_HALF_H_
#define NORMD_CORE_TENSOR_HALF_H_

#include "core/tensor/data_type.h"

namespace normd {

// One value of a 16-bit type from and to float32. From a 16-bit type every value is exact; to one
// it is rounded to nearest even, what is too large becomes an infinity, and a NaN stays a NaN.
float ToFloat(Float16 value);
float ToFloat(Bfloat16 value);
Float16 ToFloat16(float value);
Bfloat16 ToBfloat16(float value);

}  // namespace normd

#endif  // NORMD_CORE_TENSOR_HALF_H_
