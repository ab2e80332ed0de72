#include "core/state/norm_state.h"

#include <cmath>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/names.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

constexpr size_t kShownEtagBytesMax = 64;

template <typename T>
absl::Status CheckValues(absl::string_view field, const std::vector<T>& values,
                         int64_t num_features, bool negative_allowed) {
  if (static_cast<int64_t>(values.size()) != num_features) {
    return MakeError(Reason::kParametersLengthMismatch,
                     absl::StrCat("num_features is ", num_features, ", ", field, " has ",
                                  values.size(), " values"),
                     {{"field", field},
                      {"expected", absl::StrCat(num_features)},
                      {"actual", absl::StrCat(values.size())}});
  }
  for (size_t c = 0; c < values.size(); ++c) {
    if (!std::isfinite(values[c]) || (values[c] < 0 && !negative_allowed)) {
      return MakeError(
          Reason::kNonFiniteValue,
          absl::StrCat(field, " is ", values[c], " at channel ", c, ", expected a finite value",
                       negative_allowed ? "" : " that is not negative"),
          {{"field", field}, {"index", absl::StrCat(c)}});
    }
  }
  return absl::OkStatus();
}

absl::Status CheckParameters(const NormConfig& config,
                             const std::optional<std::vector<float>>& weight,
                             const std::optional<std::vector<float>>& bias) {
  if (!weight.has_value() && !bias.has_value()) return absl::OkStatus();
  if (!config.affine) {
    return MakeError(Reason::kParametersAbsent,
                     "affine is false, so there is no weight and bias to set",
                     {{"field", "parameters"}});
  }
  if (weight.has_value()) {
    NORMD_RETURN_IF_ERROR(CheckValues("weight", *weight, config.num_features, true));
  }
  if (bias.has_value()) {
    NORMD_RETURN_IF_ERROR(CheckValues("bias", *bias, config.num_features, true));
  }
  return absl::OkStatus();
}

absl::Status CheckRunningStats(const NormConfig& config, const RunningStats& stats) {
  if (!config.track_running_stats) {
    return MakeError(Reason::kRunningStatsAbsent,
                     "track_running_stats is false, so there are no running statistics to set",
                     {{"field", "running_stats"}});
  }
  NORMD_RETURN_IF_ERROR(CheckValues("running_mean", stats.mean, config.num_features, true));
  NORMD_RETURN_IF_ERROR(CheckValues("running_var", stats.var, config.num_features, false));
  if (stats.num_batches_tracked < 0 || stats.num_batches_tracked > kNumBatchesTrackedMax) {
    return MakeError(Reason::kNonFiniteValue,
                     absl::StrCat("num_batches_tracked is ", stats.num_batches_tracked,
                                  ", expected 0 to ", kNumBatchesTrackedMax),
                     {{"field", "running_stats.num_batches_tracked"}});
  }
  return absl::OkStatus();
}

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

}  // namespace

absl::StatusOr<NormState> NormState::Create(absl::string_view name, const NormConfig& config,
                                            InitialValues initial, absl::Time now) {
  NORMD_RETURN_IF_ERROR(CheckStateName(name));
  NORMD_RETURN_IF_ERROR(CheckNormConfig(config));
  NORMD_RETURN_IF_ERROR(CheckParameters(config, initial.weight, initial.bias));
  if (initial.running_stats.has_value()) {
    NORMD_RETURN_IF_ERROR(CheckRunningStats(config, *initial.running_stats));
  }
  NormState state;
  state.name = std::string(name);
  state.config = config;
  if (config.affine) {
    state.weight =
        std::move(initial.weight).value_or(std::vector<float>(config.num_features, 1.0F));
    state.bias = std::move(initial.bias).value_or(std::vector<float>(config.num_features, 0.0F));
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
    const Moments& batch, const ProducerSequence& producer) const {
  if (absl::Status status = CheckProducer(producer); !status.ok()) return status;
  // A duplicate was right when it was applied: a later freeze does not make its retry an error.
  if (!producer.producer_id.empty() &&
      producer.sequence <= producers.Sequence(producer.producer_id)) {
    return Disposition::kDuplicate;
  }
  if (absl::Status status = CheckNotFrozen(); !status.ok()) return status;
  if (absl::Status status = CheckMoments(batch, config); !status.ok()) return status;
  if (absl::Status status = CheckValuesPerChannel(batch.count); !status.ok()) return status;
  if (batch.count == 0 || !running_stats.has_value()) return Disposition::kApplied;
  return std::nullopt;
}

absl::Status NormState::Fold(const Moments& batch, const ProducerSequence& producer, absl::Time now,
                             const ProducerLimits& limits) {
  if (!producer.producer_id.empty()) {
    NORMD_RETURN_IF_ERROR(producers.Record(producer.producer_id, producer.sequence, now, limits));
  }
  running_stats->Fold(batch, config);
  return absl::OkStatus();
}

absl::Status NormState::SetParameters(std::optional<std::vector<float>> new_weight,
                                      std::optional<std::vector<float>> new_bias) {
  NORMD_RETURN_IF_ERROR(CheckNotFrozen());
  NORMD_RETURN_IF_ERROR(CheckParameters(config, new_weight, new_bias));
  if (new_weight.has_value()) weight = *std::move(new_weight);
  if (new_bias.has_value()) bias = *std::move(new_bias);
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
  NORMD_RETURN_IF_ERROR(CheckUnchanged("config.kind", new_config.kind == config.kind));
  NORMD_RETURN_IF_ERROR(
      CheckUnchanged("config.num_features", new_config.num_features == config.num_features));
  NORMD_RETURN_IF_ERROR(CheckUnchanged("config.affine", new_config.affine == config.affine));
  NORMD_RETURN_IF_ERROR(CheckUnchanged(
      "config.track_running_stats", new_config.track_running_stats == config.track_running_stats));
  NORMD_RETURN_IF_ERROR(CheckNormConfig(new_config));
  config = new_config;
  return absl::OkStatus();
}

absl::Status NormState::CheckEtag(absl::string_view etag) const {
  if (etag.empty() || etag == Etag()) return absl::OkStatus();
  // Escaped and cut: it came from a client and may be anything.
  const std::string given = absl::CHexEscape(etag.substr(0, kShownEtagBytesMax));
  return MakeError(Reason::kEtagMismatch,
                   absl::StrCat("etag is '", Etag(), "', the request expected '", given,
                                etag.size() > kShownEtagBytesMax ? "...'" : "'"),
                   {{"field", "etag"}, {"actual", Etag()}});
}

std::string NormState::Etag() const {
  return absl::StrFormat("%x-%x", absl::ToUnixMicros(create_time), settings_revision);
}

int64_t NormState::MemoryBytes() const {
  int64_t bytes = static_cast<int64_t>(sizeof(NormState) + name.capacity());
  bytes += static_cast<int64_t>((weight.capacity() + bias.capacity()) * sizeof(float));
  if (running_stats.has_value()) {
    bytes += static_cast<int64_t>((running_stats->mean.capacity() + running_stats->var.capacity()) *
                                  sizeof(double));
  }
  return bytes + producers.MemoryBytes();
}

absl::Status NormState::CheckNotFrozen() const {
  if (!frozen) return absl::OkStatus();
  return MakeError(Reason::kStateFrozen, "the state is frozen, expected it unfrozen");
}

}  // namespace normd
