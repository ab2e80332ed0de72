#include "core/state/state_codec.h"

#include <zlib.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "normd/storage/v1/state_record.pb.h"

namespace normd {
namespace {

using storage::v1::ConfigRecord;
using storage::v1::StateRecord;

constexpr uint32_t kFormatVersion = 1;
constexpr size_t kChecksumBytes = 4;
constexpr size_t kHeaderBytes = 8;

void PutFixed32(uint32_t value, char* to) {
  for (int i = 0; i < 4; ++i) to[i] = static_cast<char>((value >> (8 * i)) & 0xff);
}

uint32_t GetFixed32(const char* from) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{static_cast<unsigned char>(from[i])} << (8 * i);
  return value;
}

uint32_t Checksum(absl::string_view bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

absl::Status Damaged(absl::string_view name, absl::string_view problem) {
  return MakeError(Reason::kRecordDamaged,
                   absl::StrCat("the stored record of state '", name, "' is damaged: ", problem),
                   {{"name", name}});
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
  return config;
}

template <typename T>
std::vector<T> ToVector(const google::protobuf::RepeatedField<T>& field) {
  return std::vector<T>(field.begin(), field.end());
}

// OK when the record's parts fit its config. Running statistics may be not finite: PROPAGATE.
absl::Status CheckRecord(absl::string_view name, int64_t revision, const StateRecord& record) {
  if (record.name() != name) {
    return Damaged(name, absl::StrCat("it holds the state '", record.name(), "'"));
  }
  if (record.revision() != revision) {
    return Damaged(name,
                   absl::StrCat("it holds revision ", record.revision(), ", expected ", revision));
  }
  const NormConfig config = ConfigFromRecord(record.config());
  if (absl::Status status = CheckNormConfig(config); !status.ok()) {
    return Damaged(name, status.message());
  }
  const int64_t parameters = config.affine ? config.num_features : 0;
  const int64_t buffers = config.track_running_stats ? config.num_features : 0;
  if (record.weight_size() != parameters || record.bias_size() != parameters ||
      record.running_mean_size() != buffers || record.running_var_size() != buffers) {
    return Damaged(name, absl::StrCat("it has num_features ", config.num_features,
                                      " and arrays of other lengths"));
  }
  if (record.num_batches_tracked() < 0) {
    return Damaged(name, absl::StrCat("it has num_batches_tracked ", record.num_batches_tracked(),
                                      ", expected >= 0"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string EncodeState(const NormState& state) {
  StateRecord record;
  record.set_name(state.name);
  record.set_revision(state.revision);
  record.set_settings_revision(state.settings_revision);
  ConfigToRecord(state.config, *record.mutable_config());
  record.mutable_weight()->Add(state.weight.begin(), state.weight.end());
  record.mutable_bias()->Add(state.bias.begin(), state.bias.end());
  if (state.running_stats.has_value()) {
    const RunningStats& stats = *state.running_stats;
    record.mutable_running_mean()->Add(stats.mean.begin(), stats.mean.end());
    record.mutable_running_var()->Add(stats.var.begin(), stats.var.end());
    record.set_num_batches_tracked(stats.num_batches_tracked);
  }
  record.set_frozen(state.frozen);
  record.set_create_time_us(absl::ToUnixMicros(state.create_time));
  record.set_update_time_us(absl::ToUnixMicros(state.update_time));
  for (const auto& [producer_id, entry] : state.producers.entries()) {
    storage::v1::ProducerRecord& producer = *record.add_producers();
    producer.set_producer_id(producer_id);
    producer.set_sequence(entry.sequence);
    producer.set_update_time_us(absl::ToUnixMicros(entry.update_time));
  }

  const size_t record_bytes = record.ByteSizeLong();
  std::string data(kHeaderBytes + record_bytes, '\0');
  record.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(data.data() + kHeaderBytes));
  PutFixed32(kFormatVersion, data.data() + kChecksumBytes);
  PutFixed32(Checksum(absl::string_view(data).substr(kChecksumBytes)), data.data());
  return data;
}

absl::StatusOr<NormState> DecodeState(absl::string_view name, int64_t revision,
                                      absl::string_view data) {
  if (data.size() < kHeaderBytes) {
    return Damaged(
        name, absl::StrCat("it has ", data.size(), " bytes, expected at least ", kHeaderBytes));
  }
  if (GetFixed32(data.data()) != Checksum(data.substr(kChecksumBytes))) {
    return Damaged(name, "its checksum does not match its bytes");
  }
  if (const uint32_t version = GetFixed32(data.data() + kChecksumBytes);
      version != kFormatVersion) {
    return Damaged(name, absl::StrCat("it has format version ", version,
                                      ", this server knows version ", kFormatVersion));
  }
  StateRecord record;
  const absl::string_view body = data.substr(kHeaderBytes);
  if (!record.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return Damaged(name, "it does not parse");
  }
  NORMD_RETURN_IF_ERROR(CheckRecord(name, revision, record));

  NormState state;
  state.name = std::string(name);
  state.revision = revision;
  state.settings_revision = record.settings_revision();
  state.config = ConfigFromRecord(record.config());
  state.weight = ToVector(record.weight());
  state.bias = ToVector(record.bias());
  if (state.config.track_running_stats) {
    state.running_stats = RunningStats{.mean = ToVector(record.running_mean()),
                                       .var = ToVector(record.running_var()),
                                       .num_batches_tracked = record.num_batches_tracked()};
  }
  state.frozen = record.frozen();
  state.create_time = absl::FromUnixMicros(record.create_time_us());
  state.update_time = absl::FromUnixMicros(record.update_time_us());
  for (const storage::v1::ProducerRecord& producer : record.producers()) {
    state.producers.Restore(producer.producer_id(),
                            {.sequence = producer.sequence(),
                             .update_time = absl::FromUnixMicros(producer.update_time_us())});
  }
  return state;
}

}  // namespace normd
