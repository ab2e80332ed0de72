#ifndef NORMD_CORE_STATE_NORM_STATE_H_
#define NORMD_CORE_STATE_NORM_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/norm/moments.h"
#include "core/norm/norm_config.h"
#include "core/norm/running_stats.h"
#include "core/state/producer_table.h"

namespace normd {

// What became of an update. Same numbers as normd.v1.Disposition.
enum class Disposition { kApplied = 1, kDuplicate = 2 };

// Who sends an update, and its number; an empty id is not remembered.
struct ProducerSequence {
  absl::string_view producer_id;
  int64_t sequence = 0;
};

// What a new state starts from; what is absent starts as in PyTorch.
struct InitialValues {
  std::optional<std::vector<float>> weight;
  std::optional<std::vector<float>> bias;
  std::optional<RunningStats> running_stats;
};

// One named normalization state: config, parameters, running statistics, producers. A value;
// thread-compatible. Every verb is all or nothing: on an error nothing has changed.
struct NormState {
  std::string name;
  NormConfig config;
  std::vector<float> weight;  // [C] when config.affine, else empty
  std::vector<float> bias;    // as weight
  // Present when config.track_running_stats.
  std::optional<RunningStats> running_stats;
  bool frozen = false;
  ProducerTable producers;
  int64_t revision = 0;           // grows by one with every change
  int64_t settings_revision = 0;  // revision of the last change of what users set
  absl::Time create_time;
  absl::Time update_time;

  // A state that passes every check. Errors: as CheckStateName and CheckNormConfig;
  // PARAMETERS_ABSENT, RUNNING_STATS_ABSENT (values given that the config does not have),
  // PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE (a value that is not finite, a negative
  // variance, or a num_batches_tracked that is not in [0, kNumBatchesTrackedMax]).
  static absl::StatusOr<NormState> Create(absl::string_view name, const NormConfig& config,
                                          InitialValues initial, absl::Time now);

  // What becomes of a batch that changes nothing: kDuplicate when the producer's sequence was
  // decided before; kApplied for an empty batch or a state without running statistics; an error.
  // Nothing when the batch is to be folded. Errors: STATE_FROZEN, SEQUENCE_INVALID,
  // PRODUCER_ID_INVALID, ONE_VALUE_PER_CHANNEL, and those of CheckMoments.
  std::optional<absl::StatusOr<Disposition>> Decide(const Moments& batch,
                                                    const ProducerSequence& producer) const;

  // Folds `batch` into the running statistics and remembers the producer's sequence with it.
  // Errors: PRODUCER_TABLE_FULL. REQUIRES: Decide(batch, producer) gives nothing.
  absl::Status Fold(const Moments& batch, const ProducerSequence& producer, absl::Time now,
                    const ProducerLimits& limits);

  // Sets weight, bias or both; an absent one stays. Errors: STATE_FROZEN, PARAMETERS_ABSENT,
  // PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE.
  absl::Status SetParameters(std::optional<std::vector<float>> new_weight,
                             std::optional<std::vector<float>> new_bias);

  // Back to RunningStats::Initial; producers stay. Errors: STATE_FROZEN, RUNNING_STATS_ABSENT.
  absl::Status ResetRunningStats();

  // Replaces the config. Errors: STATE_FROZEN, FIELD_IMMUTABLE, those of CheckNormConfig.
  absl::Status UpdateConfig(const NormConfig& new_config);

  // OK when `etag` is empty or this state's. Errors: ETAG_MISMATCH.
  absl::Status CheckEtag(absl::string_view etag) const;

  // Names config, parameters and frozen: changes with each of them and with nothing else.
  std::string Etag() const;

  // Batches folded; 0 without running statistics.
  int64_t num_batches_tracked() const {
    return running_stats.has_value() ? running_stats->num_batches_tracked : 0;
  }

  // About how many bytes of memory the state holds.
  int64_t MemoryBytes() const;

 private:
  absl::Status CheckNotFrozen() const;
};

}  // namespace normd

#endif  // NORMD_CORE_STATE_NORM_STATE_H_
