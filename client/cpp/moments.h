#ifndef NORMD_CLIENT_CPP_MOMENTS_H_
#define NORMD_CLIENT_CPP_MOMENTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cpp/batch.h"

namespace normd::client {

// Per-channel statistics of a batch, for C channels. May be sent instead of the batch: 2C+1 numbers
// that train a state as the values would, but allow no output.
struct Moments {
  int64_t count = 0;         // values per channel, N x spatial
  std::vector<double> mean;  // length C
  std::vector<double> m2;    // sum((x - mean)^2); length C
};

// The moments of `batch`, computed here, in float64. A batch with count 0 has mean and m2 of zeros.
// A value that is not finite makes m2 of its channel NaN, and the server decides by the state's
// policy. Thread-safe. Errors: kInvalidArgument (RANK_UNSUPPORTED, DIMENSION_NEGATIVE,
// SHAPE_OVERFLOW, DATA_LENGTH_MISMATCH).
absl::StatusOr<Moments> ComputeMoments(const Batch& batch);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_MOMENTS_H_
