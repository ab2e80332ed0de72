#include "core/state/state_record.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/shared_array.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

using google::protobuf::RepeatedField;
using storage::v1::CalibrationRecord;
using storage::v1::ConfigRecord;
using storage::v1::OptimizerRecord;
using storage::v1::ProducerRecord;
using storage::v1::SlotsRecord;
using storage::v1::StateRecord;

void OptimizerToRecord(const OptimizerConfig& optimizer, OptimizerRecord& record) {
  record.set_algorithm(static_cast<int32_t>(optimizer.algorithm));
  record.set_lr(optimizer.lr);
  record.set_weight_decay(optimizer.weight_decay);
  record.set_maximize(optimizer.maximize);
  if (optimizer.algorithm == OptimizerAlgorithm::kSgd) {
    record.set_momentum(optimizer.momentum);
    record.set_dampening(optimizer.dampening);
    record.set_nesterov(optimizer.nesterov);
  } else {
    record.set_beta1(optimizer.beta1);
    record.set_beta2(optimizer.beta2);
    record.set_eps(optimizer.eps);
    record.set_amsgrad(optimizer.amsgrad);
  }
}

OptimizerConfig OptimizerFromRecord(const OptimizerRecord& record) {
  OptimizerConfig optimizer;
  optimizer.algorithm = static_cast<OptimizerAlgorithm>(record.algorithm());
  optimizer.lr = record.lr();
  optimizer.weight_decay = record.weight_decay();
  optimizer.maximize = record.maximize();
  if (optimizer.algorithm == OptimizerAlgorithm::kSgd) {
    optimizer.momentum = record.momentum();
    optimizer.dampening = record.dampening();
    optimizer.nesterov = record.nesterov();
  } else {
    optimizer.beta1 = record.beta1();
    optimizer.beta2 = record.beta2();
    optimizer.eps = record.eps();
    optimizer.amsgrad = record.amsgrad();
  }
  return optimizer;
}

void ConfigToRecord(const NormConfig& config, ConfigRecord& record) {
  record.set_kind(static_cast<int32_t>(config.kind));
  record.set_num_features(config.num_features);
  record.set_eps(config.eps);
  if (config.momentum.has_value()) record.set_momentum(*config.momentum);
  record.set_affine(config.affine);
  record.set_track_running_stats(config.track_running_stats);
  record.set_running_var_correction(config.running_var_correction);
  record.set_non_finite(static_cast<int32_t>(config.non_finite));
  record.mutable_normalized_shape()->Add(config.normalized_shape.begin(),
                                         config.normalized_shape.end());
  record.set_num_groups(config.num_groups);
  record.set_eps_of_dtype(config.eps_of_dtype);
  // FLOAT32 is not written: version 1 has no such field.
  if (config.parameter_dtype != DataType::kFloat32) {
    record.set_parameter_dtype(static_cast<int32_t>(config.parameter_dtype));
  }
  if (config.optimizer.has_value()) {
    OptimizerToRecord(*config.optimizer, *record.mutable_optimizer());
  }
}

template <typename T>
std::vector<T> ToVector(const RepeatedField<T>& field) {
  return std::vector<T>(field.begin(), field.end());
}

NormConfig ConfigFromRecord(const ConfigRecord& record) {
  NormConfig config;
  config.kind = static_cast<NormKind>(record.kind());
  config.num_features = record.num_features();
  config.eps = record.eps();
  config.momentum = record.has_momentum() ? std::optional<double>(record.momentum()) : std::nullopt;
  config.affine = record.affine();
  config.track_running_stats = record.track_running_stats();
  config.running_var_correction = record.running_var_correction();
  config.non_finite = static_cast<NonFinitePolicy>(record.non_finite());
  config.normalized_shape = ToVector(record.normalized_shape());
  config.num_groups = record.num_groups();
  config.eps_of_dtype = record.eps_of_dtype();
  if (record.parameter_dtype() != 0) {
    config.parameter_dtype = static_cast<DataType>(record.parameter_dtype());
  }
  if (record.has_optimizer()) config.optimizer = OptimizerFromRecord(record.optimizer());
  return config;
}

void ParameterToRecord(const SharedArray& parameter, DataType dtype, RepeatedField<float>& float32,
                       RepeatedField<double>& float64) {
  if (dtype == DataType::kFloat64) {
    float64.Add(parameter.begin(), parameter.end());
    return;
  }
  float32.Reserve(static_cast<int>(parameter.size()));
  for (const double value : parameter) float32.AddAlreadyReserved(static_cast<float>(value));
}

// REQUIRES: one of the two is empty.
SharedArray ParameterFromRecord(const RepeatedField<float>& float32,
                                const RepeatedField<double>& float64) {
  std::vector<double> parameter(float32.begin(), float32.end());
  parameter.insert(parameter.end(), float64.begin(), float64.end());
  return SharedArray(parameter);
}

void SlotsToRecord(const OptimizerSlots& slots, SlotsRecord& record) {
  record.set_step(slots.step);
  record.mutable_first()->Add(slots.first.begin(), slots.first.end());
  record.mutable_second()->Add(slots.second.begin(), slots.second.end());
  record.mutable_third()->Add(slots.third.begin(), slots.third.end());
}

OptimizerSlots SlotsFromRecord(const SlotsRecord& record) {
  return {.step = record.step(),
          .first = ToVector(record.first()),
          .second = ToVector(record.second()),
          .third = ToVector(record.third())};
}

void CalibrationToRecord(const Calibration& calibration, CalibrationRecord& record) {
  record.set_calibration_id(calibration.id);
  record.set_method(static_cast<int32_t>(calibration.method));
  record.set_num_batches(calibration.num_batches);
  record.set_count(calibration.count);
  record.mutable_mean()->Add(calibration.mean.begin(), calibration.mean.end());
  record.mutable_spread()->Add(calibration.spread.begin(), calibration.spread.end());
}

Calibration CalibrationFromRecord(const CalibrationRecord& record) {
  return {.id = record.calibration_id(),
          .method = static_cast<CalibrationMethod>(record.method()),
          .num_batches = record.num_batches(),
          .count = record.count(),
          .mean = ToVector(record.mean()),
          .spread = ToVector(record.spread())};
}

bool IsBatchNormOfVersion1(const NormConfig& config) {
  return config.kind == NormKind::kBatchNorm && config.normalized_shape.empty() &&
         config.num_groups == 0 && !config.eps_of_dtype &&
         config.parameter_dtype == DataType::kFloat32 && !config.optimizer.has_value();
}

absl::Status CheckArrays(absl::string_view name, const NormConfig& config,
                         const StateRecord& record) {
  const bool float64 = config.parameter_dtype == DataType::kFloat64;
  const int64_t weight = config.affine ? config.num_features : 0;
  const int64_t bias = HasBias(config) ? config.num_features : 0;
  const int64_t buffers = config.track_running_stats ? config.num_features : 0;
  if (record.weight_size() != (float64 ? 0 : weight) ||
      record.bias_size() != (float64 ? 0 : bias) ||
      record.weight_float64_size() != (float64 ? weight : 0) ||
      record.bias_float64_size() != (float64 ? bias : 0) || record.running_mean_size() != buffers ||
      record.running_var_size() != buffers) {
    return RecordDamaged(name, absl::StrCat("it has num_features ", config.num_features,
                                            " and arrays of other lengths"));
  }
  if (record.num_batches_tracked() < 0 ||
      (record.num_batches_tracked() > 0 && config.kind == NormKind::kInstanceNorm)) {
    return RecordDamaged(
        name, absl::StrCat("it has num_batches_tracked ", record.num_batches_tracked(),
                           ", expected ", config.kind == NormKind::kInstanceNorm ? "0" : ">= 0"));
  }
  return absl::OkStatus();
}

// Whether `slots` are what at most `optimizer_step` steps make of `size` values. What an option
// that is off now has made may still be there.
bool SlotsFit(const OptimizerConfig& optimizer, int64_t size, int64_t optimizer_step,
              const SlotsRecord& slots) {
  const auto is = [size](const RepeatedField<double>& field, bool expected) {
    return field.size() == (expected ? size : 0);
  };
  if (slots.step() < 0 || slots.step() > (size > 0 ? optimizer_step : 0)) return false;
  if (optimizer.algorithm == OptimizerAlgorithm::kSgd) {
    return is(slots.first(), slots.step() > 0 && !slots.first().empty()) &&
           is(slots.second(), false) && is(slots.third(), false);
  }
  const bool stepped = slots.step() > 0;
  return is(slots.first(), stepped) && is(slots.second(), stepped) &&
         is(slots.third(), stepped && !slots.third().empty());
}

absl::Status CheckLearning(absl::string_view name, const NormConfig& config,
                           const StateRecord& record) {
  if (!config.optimizer.has_value()) {
    if (record.has_weight_slots() || record.has_bias_slots() || record.optimizer_step() != 0) {
      return RecordDamaged(name, "it has optimizer slots or steps and no optimizer");
    }
    return absl::OkStatus();
  }
  if (record.optimizer_step() < 0) {
    return RecordDamaged(
        name, absl::StrCat("it has optimizer_step ", record.optimizer_step(), ", expected >= 0"));
  }
  const int64_t bias = HasBias(config) ? config.num_features : 0;
  if (!SlotsFit(*config.optimizer, config.num_features, record.optimizer_step(),
                record.weight_slots()) ||
      !SlotsFit(*config.optimizer, bias, record.optimizer_step(), record.bias_slots())) {
    return RecordDamaged(
        name, absl::StrCat("it has num_features ", config.num_features, ", optimizer_step ",
                           record.optimizer_step(), " and optimizer slots of others"));
  }
  return absl::OkStatus();
}

absl::Status CheckCalibration(absl::string_view name, const NormConfig& config,
                              const CalibrationRecord& record) {
  if (!config.track_running_stats) {
    return RecordDamaged(name, "it has a calibration and no running statistics");
  }
  const auto method = static_cast<CalibrationMethod>(record.method());
  const bool pooled = method == CalibrationMethod::kPooled;
  if (method != CalibrationMethod::kMeanOfBatches &&
      !(pooled && config.kind != NormKind::kInstanceNorm)) {
    return RecordDamaged(name, absl::StrCat("its calibration has method ", record.method(),
                                            ", expected one of ", NormKindName(config.kind)));
  }
  // Each batch has two values at least.
  if (record.num_batches() < 0 ||
      (record.num_batches() == 0 ? record.count() != 0 : record.count() < 2)) {
    return RecordDamaged(name, absl::StrCat("its calibration has ", record.num_batches(),
                                            " batches of ", record.count(), " values"));
  }
  if (record.mean_size() != config.num_features || record.spread_size() != config.num_features) {
    return RecordDamaged(name, absl::StrCat("it has num_features ", config.num_features,
                                            " and a calibration of other lengths"));
  }
  return absl::OkStatus();
}

absl::Status CheckRecord(absl::string_view name, int64_t revision, const NormConfig& config,
                         const StateRecord& record) {
  if (record.name() != name) {
    return RecordDamaged(name, absl::StrCat("it holds the state '", record.name(), "'"));
  }
  if (record.revision() != revision) {
    return RecordDamaged(
        name, absl::StrCat("it holds revision ", record.revision(), ", expected ", revision));
  }
  if (absl::Status status = CheckNormConfig(config); !status.ok()) {
    return RecordDamaged(name, status.message());
  }
  NORMD_RETURN_IF_ERROR(CheckArrays(name, config, record));
  NORMD_RETURN_IF_ERROR(CheckLearning(name, config, record));
  if (!record.has_calibration()) return absl::OkStatus();
  return CheckCalibration(name, config, record.calibration());
}

// By producer_id, as ProducerTable has them; servers of before wrote them in any order.
std::vector<const ProducerRecord*> InOrder(
    const google::protobuf::RepeatedPtrField<ProducerRecord>& records) {
  std::vector<const ProducerRecord*> ordered;
  ordered.reserve(static_cast<size_t>(records.size()));
  for (const ProducerRecord& record : records) ordered.push_back(&record);
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const ProducerRecord* a, const ProducerRecord* b) {
                     return a->producer_id() < b->producer_id();
                   });
  return ordered;
}

}  // namespace

uint32_t OldestVersionFor(const NormState& state) {
  const bool is_version1 = IsBatchNormOfVersion1(state.config) &&
                           state.weight_slots == OptimizerSlots() &&
                           state.bias_slots == OptimizerSlots() && state.optimizer_step == 0 &&
                           !state.calibration.has_value();
  return is_version1 ? 1 : 2;
}

void ToRecord(const NormState& state, StateRecord& record) {
  record.Clear();
  record.set_name(state.name);
  record.set_revision(state.revision);
  record.set_settings_revision(state.settings_revision);
  ConfigToRecord(state.config, *record.mutable_config());
  ParameterToRecord(state.weight, state.config.parameter_dtype, *record.mutable_weight(),
                    *record.mutable_weight_float64());
  ParameterToRecord(state.bias, state.config.parameter_dtype, *record.mutable_bias(),
                    *record.mutable_bias_float64());
  if (state.running_stats.has_value()) {
    const RunningStats& stats = *state.running_stats;
    record.mutable_running_mean()->Add(stats.mean.begin(), stats.mean.end());
    record.mutable_running_var()->Add(stats.var.begin(), stats.var.end());
    record.set_num_batches_tracked(stats.num_batches_tracked);
  }
  if (state.weight_slots != OptimizerSlots()) {
    SlotsToRecord(state.weight_slots, *record.mutable_weight_slots());
  }
  if (state.bias_slots != OptimizerSlots()) {
    SlotsToRecord(state.bias_slots, *record.mutable_bias_slots());
  }
  record.set_optimizer_step(state.optimizer_step);
  if (state.calibration.has_value()) {
    CalibrationToRecord(*state.calibration, *record.mutable_calibration());
  }
  record.set_frozen(state.frozen);
  record.set_create_time_us(absl::ToUnixMicros(state.create_time));
  record.set_update_time_us(absl::ToUnixMicros(state.update_time));
  for (const ProducerTable::Entry& entry : state.producers.entries()) {
    ProducerRecord& producer = *record.add_producers();
    producer.set_producer_id(entry.producer_id);
    producer.set_sequence(entry.sequence);
    producer.set_update_time_us(absl::ToUnixMicros(entry.update_time));
  }
}

absl::StatusOr<NormState> FromRecord(absl::string_view name, int64_t revision,
                                     const StateRecord& record) {
  NormState state;
  state.config = ConfigFromRecord(record.config());
  NORMD_RETURN_IF_ERROR(CheckRecord(name, revision, state.config, record));
  state.name = std::string(name);
  state.revision = revision;
  state.settings_revision = record.settings_revision();
  state.weight = ParameterFromRecord(record.weight(), record.weight_float64());
  state.bias = ParameterFromRecord(record.bias(), record.bias_float64());
  if (state.config.track_running_stats) {
    state.running_stats = RunningStats{.mean = ToVector(record.running_mean()),
                                       .var = ToVector(record.running_var()),
                                       .num_batches_tracked = record.num_batches_tracked()};
  }
  state.weight_slots = SlotsFromRecord(record.weight_slots());
  state.bias_slots = SlotsFromRecord(record.bias_slots());
  state.optimizer_step = record.optimizer_step();
  if (record.has_calibration()) state.calibration = CalibrationFromRecord(record.calibration());
  state.frozen = record.frozen();
  state.create_time = absl::FromUnixMicros(record.create_time_us());
  state.update_time = absl::FromUnixMicros(record.update_time_us());
  for (const ProducerRecord* const producer : InOrder(record.producers())) {
    state.producers.Restore(producer->producer_id(), producer->sequence(),
                            absl::FromUnixMicros(producer->update_time_us()));
  }
  return state;
}

absl::Status RecordDamaged(absl::string_view name, absl::string_view problem) {
  return MakeError(Reason::kRecordDamaged,
                   absl::StrCat("the stored record of state '", name, "' is damaged: ", problem),
                   {{"name", name}});
}

}  // namespace normd
