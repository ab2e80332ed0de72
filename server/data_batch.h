#ifndef NORMD_SERVER_DATA_BATCH_H_
#define NORMD_SERVER_DATA_BATCH_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/norm/norm_config.h"
#include "core/norm/normalization.h"
#include "core/state/norm_state.h"

// What Train, Normalize and Backward ask of a batch before they compute.
namespace normd {

// OK when the sets of `batch` have a variance where PyTorch asks for one. Errors:
// ONE_VALUE_PER_CHANNEL.
absl::Status CheckHasVariance(const Batch& batch);

// What a state scales and shifts by. Borrows from `state`.
Affine AffineOf(const NormState& state);

// The running statistics. Borrows from `state`. REQUIRES: the state has them.
Running RunningOf(const NormState& state);

}  // namespace normd

#endif  // NORMD_SERVER_DATA_BATCH_H_
