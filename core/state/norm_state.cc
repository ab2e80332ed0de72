#include "core/state/norm_state.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/names.h"
#include "core/base/prefetch.h"
#include "core/base/status_macros.h"
#include "core/state/value_check.h"

namespace normd {
namespace {

absl::Status CheckProducer(const ProducerSequence& producer) {
  if (producer.producer_id.size() > kProducerIdBytesMax) {
    return MakeError(Reason::kProducerIdInvalid,
                     absl::StrCat("producer_id has ", producer.producer_id.size(),
                                  " bytes, expected at most ", kProducerIdBytesMax),
                     {{"field", "producer_id"}});
  }
  if (!producer.producer_id.empty() && producer.sequence < 1) {
    return MakeError(Reason::kSequenceInvalid,
                     absl::StrCat("sequence is ", producer.sequence, ", expected >= 1"),
                     {{"field", "sequence"}});
  }
  return absl::OkStatus();
}

absl::Status CheckUnchanged(absl::string_view field, bool unchanged) {
  if (unchanged) return absl::OkStatus();
  return MakeError(Reason::kFieldImmutable,
                   absl::StrCat(field, " is fixed at creation, expected it unchanged"),
                   {{"field", field}});
}

// As ProducerTable::Record, for an update that may have no producer.
absl::Status Remember(const ProducerSequence& producer, absl::Time now,
                      const ProducerLimits& limits, ProducerTable& producers) {
  if (producer.producer_id.empty()) return absl::OkStatus();
  return producers.Record(producer.producer_id, producer.sequence, now, limits);
}

bool IsDuplicate(const ProducerSequence& producer, const ProducerTable& producers) {
  return !producer.producer_id.empty() &&
         producer.sequence <= producers.Sequence(producer.producer_id);
}

// A parameter and its slots, one step further.
struct Step {
  SharedArray parameter;
  OptimizerSlots slots;
};

// Errors: NON_FINITE_VALUE under NonFinitePolicy::kRefuse. A slot is refused as well: one that is
// not finite would spoil every later step.
absl::StatusOr<Step> TakeStep(absl::string_view name, const NormConfig& config,
                              const std::vector<double>& grad, const SharedArray& parameter,
                              const OptimizerSlots& slots) {
  std::vector<double> stepped(parameter.begin(), parameter.end());
  Step step = {.parameter = {}, .slots = slots};
  StepParameter(*config.optimizer, grad, absl::MakeSpan(stepped), step.slots);
  Round(config.parameter_dtype, stepped);
  step.parameter = SharedArray(stepped);
  if (config.non_finite == NonFinitePolicy::kPropagate) return step;
  const std::string field = absl::StrCat("grad_", name);
  const std::pair<absl::string_view, const std::vector<double>*> parts[] = {
      {name, &stepped},
      {"an optimizer slot", &step.slots.first},
      {"an optimizer slot", &step.slots.second},
      {"an optimizer slot", &step.slots.third}};
  for (const auto& [part, values] : parts) {
    for (size_t c = 0; c < values->size(); ++c) {
      if (std::isfinite((*values)[c])) continue;
      return MakeError(
          Reason::kNonFiniteValue,
          absl::StrCat("the step by ", field, " ", grad[c], " at channel ", c, " would make ", part,
                       " ", (*values)[c], ", expected a finite value"),
          {{"field", field}, {"index", absl::StrCat(c)}});
    }
  }
  return step;
}

absl::Status CheckGathered(const Calibration& calibration) {
  for (size_t c = 0; c < calibration.mean.size(); ++c) {
    if (std::isfinite(calibration.mean[c]) && std::isfinite(calibration.spread[c])) continue;
    return MakeError(Reason::kNonFiniteValue,
                     absl::StrCat("the calibration's statistics at channel ", c, " would be ",
                                  calibration.mean[c], " and ", calibration.spread[c],
                                  ", expected finite values"),
                     {{"field", "moments"}, {"index", absl::StrCat(c)}});
  }
  return absl::OkStatus();
}

int64_t ArrayBytes(const std::vector<double>& values) {
  return static_cast<int64_t>(values.capacity() * sizeof(double));
}

template <typename Array>
void PrefetchArray(const Array& values) {
  constexpr size_t kBytesMax = 512;
  Prefetch(values.data(), std::min(values.size() * sizeof(values[0]), kBytesMax));
}

int64_t SlotsBytes(const OptimizerSlots& slots) {
  return ArrayBytes(slots.first) + ArrayBytes(slots.second) + ArrayBytes(slots.third);
}

}  // namespace

absl::StatusOr<NormState> NormState::Create(absl::string_view name, const NormConfig& config,
                                            InitialValues initial, absl::Time now) {
  NORMD_RETURN_IF_ERROR(CheckStateName(name));
  NORMD_RETURN_IF_ERROR(CheckNormConfig(config));
  NORMD_RETURN_IF_ERROR(CheckAndRound(config, initial.parameters));
  if (initial.running_stats.has_value()) {
    NORMD_RETURN_IF_ERROR(CheckRunningStats(config, *initial.running_stats));
  }
  NormState state;
  state.name = std::string(name);
  state.config = config;
  if (config.affine) {
    state.weight = SharedArray(std::move(initial.parameters.weight)
                                   .value_or(std::vector<double>(config.num_features, 1.0)));
  }
  if (HasBias(config)) {
    state.bias = SharedArray(
        std::move(initial.parameters.bias).value_or(std::vector<double>(config.num_features, 0.0)));
  }
  if (config.track_running_stats) {
    state.running_stats =
        std::move(initial.running_stats).value_or(RunningStats::Initial(config.num_features));
  }
  state.create_time = now;
  state.update_time = now;
  return state;
}

std::optional<absl::StatusOr<Disposition>> NormState::Decide(
    const Moments& batch, const ProducerSequence& producer, FoldInto into,
    absl::string_view calibration_id) const {
  if (absl::Status status = CheckProducer(producer); !status.ok()) return status;
  // A duplicate was right when it was applied: a later freeze does not make its retry an error.
  if (IsDuplicate(producer, producers)) return Disposition::kDuplicate;
  if (absl::Status status = CheckNotFrozen(); !status.ok()) return status;
  if (into == FoldInto::kCalibration) {
    if (absl::Status status = CheckCalibration(calibration_id); !status.ok()) return status;
  }
  if (running_stats.has_value()) {
    if (absl::Status status = CheckMoments(batch, config); !status.ok()) return status;
  }
  const int64_t samples = config.kind == NormKind::kGroupNorm
                              ? static_cast<int64_t>(batch.mean.size()) / config.num_groups
                              : 1;
  if (absl::Status status = CheckValuesPerSet(batch.count, config.kind, samples); !status.ok()) {
    return status;
  }
  if (batch.count == 0 || !running_stats.has_value()) return Disposition::kApplied;
  return std::nullopt;
}

absl::Status NormState::Fold(const Moments& batch, const ProducerSequence& producer, absl::Time now,
                             const ProducerLimits& limits, FoldInto into) {
  if (into == FoldInto::kRunningStats) {
    NORMD_RETURN_IF_ERROR(Remember(producer, now, limits, producers));
    running_stats->Fold(batch, config);
    return absl::OkStatus();
  }
  Calibration gathered = *calibration;
  gathered.Add(batch, config);
  if (config.non_finite == NonFinitePolicy::kRefuse) {
    NORMD_RETURN_IF_ERROR(CheckGathered(gathered));
  }
  NORMD_RETURN_IF_ERROR(Remember(producer, now, limits, producers));
  calibration = std::move(gathered);
  return absl::OkStatus();
}

std::optional<absl::StatusOr<Disposition>> NormState::DecideGradients(
    const Parameters& gradients, const ProducerSequence& producer) const {
  if (absl::Status status = CheckProducer(producer); !status.ok()) return status;
  if (IsDuplicate(producer, producers)) return Disposition::kDuplicate;
  if (absl::Status status = CheckNotFrozen(); !status.ok()) return status;
  if (absl::Status status = CheckGradients(config, gradients); !status.ok()) return status;
  return std::nullopt;
}

absl::Status NormState::ApplyGradients(const Parameters& gradients,
                                       const ProducerSequence& producer, absl::Time now,
                                       const ProducerLimits& limits) {
  std::optional<Step> weight_step;
  std::optional<Step> bias_step;
  if (gradients.weight.has_value()) {
    NORMD_ASSIGN_OR_RETURN(weight_step,
                           TakeStep("weight", config, *gradients.weight, weight, weight_slots));
  }
  if (gradients.bias.has_value()) {
    NORMD_ASSIGN_OR_RETURN(bias_step, TakeStep("bias", config, *gradients.bias, bias, bias_slots));
  }
  NORMD_RETURN_IF_ERROR(Remember(producer, now, limits, producers));
  if (weight_step.has_value()) {
    weight = std::move(weight_step->parameter);
    weight_slots = std::move(weight_step->slots);
  }
  if (bias_step.has_value()) {
    bias = std::move(bias_step->parameter);
    bias_slots = std::move(bias_step->slots);
  }
  ++optimizer_step;
  return absl::OkStatus();
}

absl::Status NormState::SetParameters(Parameters parameters) {
  NORMD_RETURN_IF_ERROR(CheckNotFrozen());
  NORMD_RETURN_IF_ERROR(CheckAndRound(config, parameters));
  if (parameters.weight.has_value()) weight = SharedArray(*parameters.weight);
  if (parameters.bias.has_value()) bias = SharedArray(*parameters.bias);
  return absl::OkStatus();
}

absl::Status NormState::ResetRunningStats() {
  NORMD_RETURN_IF_ERROR(CheckNotFrozen());
  if (!running_stats.has_value()) {
    return MakeError(Reason::kRunningStatsAbsent,
                     "track_running_stats is false, so there are no running statistics to reset");
  }
  running_stats = RunningStats::Initial(config.num_features);
  return absl::OkStatus();
}

absl::Status NormState::UpdateConfig(const NormConfig& new_config) {
  NORMD_RETURN_IF_ERROR(CheckNotFrozen());
  const std::pair<absl::string_view, bool> fixed[] = {
      {"config.kind", new_config.kind == config.kind},
      {"config.num_features", new_config.num_features == config.num_features},
      {"config.affine", new_config.affine == config.affine},
      {"config.track_running_stats", new_config.track_running_stats == config.track_running_stats},
      {"config.normalized_shape", new_config.normalized_shape == config.normalized_shape},
      {"config.num_groups", new_config.num_groups == config.num_groups},
      {"config.parameter_dtype", new_config.parameter_dtype == config.parameter_dtype}};
  for (const auto& [field, unchanged] : fixed) {
    NORMD_RETURN_IF_ERROR(CheckUnchanged(field, unchanged));
  }
  NORMD_RETURN_IF_ERROR(CheckNormConfig(new_config));
  const bool same_algorithm = config.optimizer.has_value() && new_config.optimizer.has_value() &&
                              config.optimizer->algorithm == new_config.optimizer->algorithm;
  if (!same_algorithm) {
    weight_slots = {};
    bias_slots = {};
    optimizer_step = 0;
  }
  config = new_config;
  return absl::OkStatus();
}

absl::Status NormState::BeginCalibration(CalibrationMethod method) {
  NORMD_RETURN_IF_ERROR(CheckNotFrozen());
  if (!running_stats.has_value()) {
    return MakeError(
        Reason::kRunningStatsAbsent,
        "track_running_stats is false, so there are no running statistics to calibrate");
  }
  if (method == CalibrationMethod::kPooled && config.kind == NormKind::kInstanceNorm) {
    return MakeError(
        Reason::kFieldNotApplicable,
        "method is POOLED, which INSTANCE_NORM does not have, expected MEAN_OF_BATCHES",
        {{"field", "method"}, {"kind", NormKindName(config.kind)}});
  }
  if (calibration.has_value()) {
    return MakeError(Reason::kCalibrationActive,
                     absl::StrCat("the calibration '", calibration->id, "' of ",
                                  calibration->num_batches, " batches is under way, expected none"),
                     {{"calibration_id", calibration->id}});
  }
  calibration = Calibration::Begin(method, config.num_features);
  calibration->id = absl::StrFormat("%x-%x", absl::ToUnixMicros(create_time), revision + 1);
  return absl::OkStatus();
}

absl::Status NormState::CommitCalibration(absl::string_view calibration_id) {
  NORMD_RETURN_IF_ERROR(CheckNotFrozen());
  NORMD_RETURN_IF_ERROR(CheckCalibration(calibration_id));
  if (calibration->num_batches == 0) {
    return MakeError(Reason::kCalibrationEmpty,
                     "the calibration has 0 batches, expected at least 1");
  }
  // What was gathered under PROPAGATE must not get past a policy that was changed since.
  if (config.non_finite == NonFinitePolicy::kRefuse) {
    NORMD_RETURN_IF_ERROR(CheckGathered(*calibration));
  }
  running_stats = calibration->Finish(config);
  calibration.reset();
  return absl::OkStatus();
}

absl::Status NormState::AbortCalibration(absl::string_view calibration_id) {
  NORMD_RETURN_IF_ERROR(CheckNotFrozen());
  NORMD_RETURN_IF_ERROR(CheckCalibration(calibration_id));
  calibration.reset();
  return absl::OkStatus();
}

absl::Status NormState::CheckEtag(absl::string_view etag) const {
  if (etag.empty() || etag == Etag()) return absl::OkStatus();
  const std::string given = EscapedAndCut(etag);
  return MakeError(Reason::kEtagMismatch,
                   absl::StrCat("etag is '", Etag(), "', the request expected '", given, "'"),
                   {{"field", "etag"}, {"expected", given}, {"actual", Etag()}});
}

std::string NormState::Etag() const {
  return absl::StrFormat("%x-%x", absl::ToUnixMicros(create_time), settings_revision);
}

int64_t NormState::MemoryBytes() const {
  return UnsharedMemoryBytes() + weight.MemoryBytes() + bias.MemoryBytes();
}

int64_t NormState::UnsharedMemoryBytes() const {
  int64_t bytes = static_cast<int64_t>(sizeof(NormState) + name.capacity());
  bytes += static_cast<int64_t>(config.normalized_shape.capacity() * sizeof(int64_t));
  bytes += SlotsBytes(weight_slots) + SlotsBytes(bias_slots);
  if (running_stats.has_value()) {
    bytes += ArrayBytes(running_stats->mean) + ArrayBytes(running_stats->var);
  }
  if (calibration.has_value()) {
    bytes += ArrayBytes(calibration->mean) + ArrayBytes(calibration->spread);
  }
  return bytes + producers.MemoryBytes();
}

void NormState::PrefetchArrays() const {
  PrefetchArray(weight);
  PrefetchArray(bias);
  if (running_stats.has_value()) {
    PrefetchArray(running_stats->mean);
    PrefetchArray(running_stats->var);
  }
  PrefetchArray(producers.entries());
}

void NormState::PrefetchForCopy() const {
  weight.PrefetchCount();
  bias.PrefetchCount();
}

absl::Status NormState::CheckNotFrozen() const {
  if (!frozen) return absl::OkStatus();
  return MakeError(Reason::kStateFrozen, "the state is frozen, expected it unfrozen");
}

absl::Status NormState::CheckCalibration(absl::string_view calibration_id) const {
  if (!calibration.has_value()) {
    return MakeError(Reason::kCalibrationNotActive,
                     "no calibration is under way, expected one that was begun");
  }
  if (calibration_id.empty() || calibration_id == calibration->id) return absl::OkStatus();
  const std::string given = EscapedAndCut(calibration_id);
  return MakeError(Reason::kCalibrationMismatch,
                   absl::StrCat("the calibration under way is '", calibration->id,
                                "', the request expected '", given, "'"),
                   {{"field", "calibration_id"}, {"expected", given}, {"actual", calibration->id}});
}

}  // namespace normd
