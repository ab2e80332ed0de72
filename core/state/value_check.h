#ifndef NORMD_CORE_STATE_VALUE_CHECK_H_
#define NORMD_CORE_STATE_VALUE_CHECK_H_

#include <vector>

#include "absl/status/status.h"
#include "core/norm/norm_config.h"
#include "core/norm/running_stats.h"
#include "core/state/norm_state.h"
#include "core/tensor/data_type.h"

// Which arrays a state takes from a client; channels are counted from 0.
namespace normd {

// Rounds `parameters` to parameter_dtype, when a state of `config` can start from them. Errors:
// PARAMETERS_ABSENT, PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE (also after rounding).
absl::Status CheckAndRound(const NormConfig& config, Parameters& parameters);

// OK when a state of `config` can start from `stats`. Errors: RUNNING_STATS_ABSENT,
// PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE, RUNNING_STATS_OUT_OF_RANGE (a negative variance, or
// a num_batches_tracked that is not in [0, kNumBatchesTrackedMax]), FIELD_NOT_APPLICABLE
// (num_batches_tracked of kInstanceNorm).
absl::Status CheckRunningStats(const NormConfig& config, const RunningStats& stats);

// OK when a state of `config` can step its parameters by `gradients`. Errors: PARAMETERS_ABSENT,
// OPTIMIZER_ABSENT, GRADIENTS_MISSING, PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE (under
// NonFinitePolicy::kRefuse).
absl::Status CheckGradients(const NormConfig& config, const Parameters& gradients);

// Rounds to the nearest values of `dtype`; what is too large becomes an infinity.
void Round(DataType dtype, std::vector<double>& values);

}  // namespace normd

#endif  // NORMD_CORE_STATE_VALUE_CHECK_H_
