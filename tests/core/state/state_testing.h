#ifndef NORMD_TESTS_CORE_STATE_STATE_TESTING_H_
#define NORMD_TESTS_CORE_STATE_STATE_TESTING_H_

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "core/state/norm_state.h"
#include "core/state/state_codec.h"

namespace normd {

inline const absl::Time kCreateTime = absl::FromUnixMicros(1'700'000'000'123'456);

// A new state of two channels with the given config.
inline NormState NewState(NormConfig config = {}, InitialValues initial = {}) {
  config.num_features = 2;
  absl::StatusOr<NormState> state =
      NormState::Create("m/bn1", config, std::move(initial), kCreateTime);
  EXPECT_TRUE(state.ok()) << state.status();
  return *std::move(state);
}

// A batch of 5 values a channel: means 10 and -1, unbiased variances 2.5 and 1.
inline Moments GoodBatch() { return {.count = 5, .mean = {10, -1}, .m2 = {10, 4}}; }

// What the write path does with one update: decides, and folds what is to be folded.
inline absl::StatusOr<Disposition> Train(NormState& state, const Moments& batch,
                                         const ProducerSequence& producer = {},
                                         absl::Time now = kCreateTime,
                                         const ProducerLimits& limits = {},
                                         FoldInto into = FoldInto::kRunningStats) {
  if (const auto decided = state.Decide(batch, producer, into); decided.has_value()) {
    return *decided;
  }
  if (absl::Status status = state.Fold(batch, producer, now, limits, into); !status.ok()) {
    return status;
  }
  return Disposition::kApplied;
}

// Contributes one batch to the calibration under way.
inline absl::StatusOr<Disposition> Contribute(NormState& state, const Moments& batch,
                                              const ProducerSequence& producer = {},
                                              absl::Time now = kCreateTime,
                                              const ProducerLimits& limits = {}) {
  return Train(state, batch, producer, now, limits, FoldInto::kCalibration);
}

// Decides gradients and applies what is to be applied.
inline absl::StatusOr<Disposition> Learn(NormState& state, const Parameters& gradients,
                                         const ProducerSequence& producer = {},
                                         absl::Time now = kCreateTime,
                                         const ProducerLimits& limits = {}) {
  if (const auto decided = state.DecideGradients(gradients, producer); decided.has_value()) {
    return *decided;
  }
  if (absl::Status status = state.ApplyGradients(gradients, producer, now, limits); !status.ok()) {
    return status;
  }
  return Disposition::kApplied;
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_STATE_STATE_TESTING_H_
