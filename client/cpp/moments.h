#ifndef NORMD_CLIENT_CPP_MOMENTS_H_
#define NORMD_CLIENT_CPP_MOMENTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cpp/batch.h"
#include "client/cpp/state.h"

namespace normd::client {

// Statistics of the M sets of values that a batch is normalized by: of C channels for batch norm,
// of every sample and channel, sample by sample (M = N x C), for instance norm; for the other kinds
// see normd.v1.Moments. Those of a batch of these two kinds may be sent instead of the batch: 2M+1
// numbers that train a state as the values would, but allow no output.
struct Moments {
  int64_t count = 0;         // values in each set
  std::vector<double> mean;  // length M
  std::vector<double> m2;    // sum((x - mean)^2); length M
};

// The moments of `batch`, of any dtype, for a state of `kind`, computed here, in float64. A batch
// with count 0 has mean and m2 of zeros. A value that is not finite makes m2 of its set NaN, and
// the server decides by the state's policy. Thread-safe. Errors: kInvalidArgument
// (RANK_UNSUPPORTED, DIMENSION_NEGATIVE, SHAPE_OVERFLOW, DATA_LENGTH_MISMATCH, MOMENTS_NOT_POSSIBLE
// for other kinds).
absl::StatusOr<Moments> ComputeMoments(const Batch& batch, NormKind kind = NormKind::kBatchNorm);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_MOMENTS_H_
