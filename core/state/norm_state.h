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
#include "core/base/shared_array.h"
#include "core/norm/calibration.h"
#include "core/norm/moments.h"
#include "core/norm/norm_config.h"
#include "core/norm/optimizer.h"
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

// Values for weight, bias or both; an absent one is not meant.
struct Parameters {
  std::optional<std::vector<double>> weight = std::nullopt;
  std::optional<std::vector<double>> bias = std::nullopt;
};

// What a new state starts from; what is absent starts as in PyTorch.
struct InitialValues {
  Parameters parameters = {};
  std::optional<RunningStats> running_stats = std::nullopt;
};

// What a batch is folded into.
enum class FoldInto { kRunningStats, kCalibration };

// One named normalization state: config, parameters, running statistics, optimizer, calibration,
// producers. A value; thread-compatible. Every verb is all or nothing: on an error nothing has
// changed.
struct NormState {
  std::string name;
  NormConfig config;
  // [C] when config.affine, else empty. Every value is one of config.parameter_dtype.
  SharedArray weight;
  SharedArray bias;  // [C] when HasBias(config), else empty
  // Present when config.track_running_stats.
  std::optional<RunningStats> running_stats;
  OptimizerSlots weight_slots;
  OptimizerSlots bias_slots;
  int64_t optimizer_step = 0;  // calls of ApplyGradients
  // Present while a calibration is under way.
  std::optional<Calibration> calibration;
  bool frozen = false;
  ProducerTable producers;
  int64_t revision = 0;           // grows by one with every change
  int64_t settings_revision = 0;  // revision of the last change of what users set
  absl::Time create_time;
  absl::Time update_time;

  // A state that passes every check; parameters are rounded to parameter_dtype. Errors: as
  // CheckStateName and CheckNormConfig; PARAMETERS_ABSENT, RUNNING_STATS_ABSENT (values given that
  // the config does not have), PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE (also after rounding),
  // RUNNING_STATS_OUT_OF_RANGE and FIELD_NOT_APPLICABLE (see CheckRunningStats).
  static absl::StatusOr<NormState> Create(absl::string_view name, const NormConfig& config,
                                          InitialValues initial, absl::Time now);

  // What becomes of a batch (its moments, one set a channel: PerChannel; of kGroupNorm those of all
  // its sets, by whose number its samples are known) that changes nothing:
  // kDuplicate when the producer's sequence was decided before; kApplied for an empty batch or a
  // state without running statistics; an error. Nothing when the batch is to be folded. Errors:
  // STATE_FROZEN, SEQUENCE_INVALID, PRODUCER_ID_INVALID, ONE_VALUE_PER_CHANNEL, and, with running
  // statistics, those of CheckMoments; of kCalibration CALIBRATION_NOT_ACTIVE and
  // CALIBRATION_MISMATCH (`calibration_id` is not empty and another's).
  std::optional<absl::StatusOr<Disposition>> Decide(const Moments& batch,
                                                    const ProducerSequence& producer,
                                                    FoldInto into = FoldInto::kRunningStats,
                                                    absl::string_view calibration_id = "") const;

  // Folds `batch` and remembers the producer's sequence with it. Errors: PRODUCER_TABLE_FULL;
  // NON_FINITE_VALUE when a calibration's statistics would not be finite (under kRefuse).
  // REQUIRES: Decide(batch, producer, into) gives nothing.
  absl::Status Fold(const Moments& batch, const ProducerSequence& producer, absl::Time now,
                    const ProducerLimits& limits, FoldInto into = FoldInto::kRunningStats);

  // What becomes of gradients that change nothing: kDuplicate, or an error. Nothing when they are
  // to be applied. Errors: STATE_FROZEN, SEQUENCE_INVALID, PRODUCER_ID_INVALID, PARAMETERS_ABSENT,
  // OPTIMIZER_ABSENT, GRADIENTS_MISSING, PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE (under
  // NonFinitePolicy::kRefuse; metadata field "grad_weight" or "grad_bias", index).
  std::optional<absl::StatusOr<Disposition>> DecideGradients(
      const Parameters& gradients, const ProducerSequence& producer) const;

  // Steps the parameters that have a gradient by config.optimizer, rounds them to parameter_dtype,
  // counts the step, and remembers the producer's sequence with it. Errors: PRODUCER_TABLE_FULL;
  // NON_FINITE_VALUE when a step would make a parameter or a slot not finite (under kRefuse;
  // metadata as DecideGradients).
  // REQUIRES: DecideGradients(gradients, producer) gives nothing.
  absl::Status ApplyGradients(const Parameters& gradients, const ProducerSequence& producer,
                              absl::Time now, const ProducerLimits& limits);

  // Sets weight, bias or both, rounded to parameter_dtype; an absent one stays, and so do the
  // optimizer's slots. Errors: STATE_FROZEN, PARAMETERS_ABSENT, PARAMETERS_LENGTH_MISMATCH,
  // NON_FINITE_VALUE.
  absl::Status SetParameters(Parameters parameters);

  // Back to RunningStats::Initial; producers and a calibration stay. Errors: STATE_FROZEN,
  // RUNNING_STATS_ABSENT.
  absl::Status ResetRunningStats();

  // Replaces the config; another algorithm of the optimizer, or none, begins with new slots and
  // step 0. Errors: STATE_FROZEN, FIELD_IMMUTABLE, those of CheckNormConfig.
  absl::Status UpdateConfig(const NormConfig& new_config);

  // Begins, commits (the running statistics become what was gathered) and forgets a calibration;
  // the latter two only that of `calibration_id`, when it is not empty. The id is made of the
  // state's creation and of the revision that begins the calibration. Errors of each: STATE_FROZEN;
  // of Begin: RUNNING_STATS_ABSENT, CALIBRATION_ACTIVE, FIELD_NOT_APPLICABLE (kPooled of
  // kInstanceNorm); of Commit and Abort: CALIBRATION_NOT_ACTIVE, CALIBRATION_MISMATCH; of Commit:
  // CALIBRATION_EMPTY, NON_FINITE_VALUE (under kRefuse).
  absl::Status BeginCalibration(CalibrationMethod method);
  absl::Status CommitCalibration(absl::string_view calibration_id = "");
  absl::Status AbortCalibration(absl::string_view calibration_id = "");

  // OK when `etag` is empty or this state's. Errors: ETAG_MISMATCH.
  absl::Status CheckEtag(absl::string_view etag) const;

  // Names config, parameters and frozen: changes with each of them and with nothing else.
  std::string Etag() const;

  // Batches folded; 0 without running statistics.
  int64_t num_batches_tracked() const {
    return running_stats.has_value() ? running_stats->num_batches_tracked : 0;
  }

  // About how many bytes of memory the state holds; and how many without those of weight and bias,
  // which its copies share.
  int64_t MemoryBytes() const;
  int64_t UnsharedMemoryBytes() const;

  // Asks the processor for the memory of weight, bias, running statistics and producers (see
  // Prefetch), and for what a copy needs beside that.
  void PrefetchArrays() const;
  void PrefetchForCopy() const;

 private:
  absl::Status CheckNotFrozen() const;
  absl::Status CheckCalibration(absl::string_view calibration_id) const;
};

}  // namespace normd

#endif  // NORMD_CORE_STATE_NORM_STATE_H_
