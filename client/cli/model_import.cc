#include <algorithm>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/array.h"
#include "client/cli/config_json.h"
#include "client/cli/model_file.h"
#include "client/cli/model_names.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

using client::NormKind;
using nlohmann::ordered_json;

// The server's limit on num_features.
constexpr int64_t kTensorValuesMax = int64_t{1} << 20;
// Of the metadata, whose own are 5 deep: nlohmann copies and prints JSON by recursion.
constexpr int kMetadataDepthMax = 32;

constexpr size_t kFieldCount = std::tuple_size_v<ModuleEntries>;
using Modules = std::map<std::string, ModuleEntries>;

// What metadata say of a state.
struct Description {
  client::StateConfig config;
  int64_t num_batches_tracked = 0;
};
using Descriptions = std::map<std::string, Description>;

absl::Status Invalid(const std::string& module, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the module '", module, "' ", what));
}

bool HasRunningStats(const ModuleEntries& module) {
  return module[kRunningMean] || module[kRunningVar];
}

Modules FindModules(const SafetensorsHeader& header, const FieldNames& names) {
  const std::string fields[kFieldCount] = {names.weight, names.bias, names.running_mean,
                                           names.running_var, names.num_batches_tracked};
  Modules modules;
  for (const SafetensorsEntry& entry : header.entries) {
    // Keras writes '/' before the name of a variable.
    const size_t end = entry.name.find_last_of("./");
    const bool has_module = end != std::string::npos;
    const std::string field = has_module ? entry.name.substr(end + 1) : entry.name;
    for (size_t i = 0; i < kFieldCount; ++i) {
      if (!field.empty() && field == fields[i]) {
        modules[has_module ? entry.name.substr(0, end) : ""][i] = &entry;
      }
    }
  }
  return modules;
}

// Whether arrays and objects are nested deeper than the limit. Exact as far as `text` is JSON, and
// the parser, which does not recurse, stops where it is not.
bool IsTooDeep(absl::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '[' || c == '{')) {
      if (++depth > kMetadataDepthMax) return true;
    } else if (!in_string && (c == ']' || c == '}')) {
      --depth;
    }
  }
  return false;
}

// The field of an object; null when it is not there, or `json` is no object.
const ordered_json& FieldOf(const ordered_json& json, const char* name) {
  static const auto* const kNull = new ordered_json();
  const auto field = json.find(name);
  return field == json.end() ? *kNull : *field;
}

absl::StatusOr<Descriptions> ParseMetadata(const std::string& text) {
  const auto damaged = [](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("the metadata under '", kModelMetadataKey, "' are damaged: ", what));
  };
  if (IsTooDeep(text)) {
    return damaged(
        absl::StrCat("expected arrays and objects at most ", kMetadataDepthMax, " deep, got more"));
  }
  const ordered_json json = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return damaged("expected a JSON object");
  if (FieldOf(json, "version") != 1) {
    return damaged("expected version 1; a newer normctl may have written them");
  }
  const ordered_json& states = FieldOf(json, "states");
  if (!states.is_array()) return damaged("expected an array of states");
  Descriptions descriptions;
  for (const ordered_json& state : states) {
    const ordered_json& module = FieldOf(state, "module");
    if (!module.is_string()) return damaged("a state has no module");
    const std::string name = module.get<std::string>();
    const absl::StatusOr<client::StateConfig> config = ConfigFromJson(FieldOf(state, "config"));
    if (!config.ok()) {
      return damaged(absl::StrCat("module '", name, "': ", config.status().message()));
    }
    const ordered_json& tracked = FieldOf(state, "num_batches_tracked");
    if (!tracked.is_null() && !tracked.is_number_integer()) {
      return damaged(absl::StrCat("module '", name, "': num_batches_tracked is no whole number"));
    }
    if (!descriptions
             .try_emplace(name,
                          Description{*config, tracked.is_null() ? 0 : tracked.get<int64_t>()})
             .second) {
      return damaged(absl::StrCat("module '", name, "' comes twice"));
    }
  }
  return descriptions;
}

bool IsVector(const SafetensorsEntry* entry) { return entry && entry->shape.size() == 1; }

// Whether a module looks like a norm that the options ask for.
bool IsWanted(const ModuleEntries& module, const NormOptions& options) {
  const bool tracks = options.track_running_stats.value_or(true);
  switch (options.kind.value_or(NormKind::kBatchNorm)) {
    case NormKind::kBatchNorm:
      return tracks ? HasRunningStats(module)
                    : IsVector(module[kWeight]) && !HasRunningStats(module);
    case NormKind::kInstanceNorm:
      return (tracks && HasRunningStats(module)) ||
             (IsVector(module[kWeight]) && !HasRunningStats(module));
    case NormKind::kGroupNorm:
      break;
    case NormKind::kLayerNorm:
    case NormKind::kRmsNorm:
      if (options.normalized_shape.empty()) break;
      return module[kWeight] && module[kWeight]->shape == options.normalized_shape &&
             !HasRunningStats(module);
  }
  return IsVector(module[kWeight]) && !HasRunningStats(module);
}

// The config of a module without metadata.
absl::StatusOr<client::StateConfig> InferConfig(const std::string& name,
                                                const ModuleEntries& module, Convention convention,
                                                NormOptions options) {
  const NormKind kind = options.kind.value_or(NormKind::kBatchNorm);
  client::StateConfig config = client::StateConfig::Default(kind);
  config.affine = module[kWeight] != nullptr || module[kBias] != nullptr;
  config.track_running_stats = HasRunningStats(module);
  if (module[kWeight] && module[kWeight]->dtype == "F64") {
    config.parameter_dtype = client::DataType::kFloat64;
  }
  if (convention == Convention::kKeras && config.eps.has_value()) config.eps = 1e-3;
  if (convention != Convention::kPyTorch && client::CanTrack(kind)) {
    const double weight_of_old = convention == Convention::kKeras ? 0.99 : 0.9;
    config.momentum = 1 - options.momentum.value_or(weight_of_old);
    options.momentum.reset();
    config.correction = 0;
  }
  NORMD_CLI_RETURN_IF_ERROR(Override(options, &config));
  const SafetensorsEntry* sizes = module[kRunningMean] ? module[kRunningMean] : module[kWeight];
  if (sizes == nullptr) return Invalid(name, "has neither running_mean nor weight");
  if (kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm) {
    config.normalized_shape = sizes->shape;
  } else {
    config.num_features = NumElements(sizes->shape);
  }
  if (kind == NormKind::kGroupNorm && config.num_groups == 0) {
    return absl::InvalidArgumentError("--kind group_norm needs --num-groups");
  }
  return config;
}

// Nothing for what is no floating dtype that a state can begin with.
std::optional<client::DataType> DtypeOf(const SafetensorsEntry& entry) {
  static constexpr std::pair<const char*, client::DataType> kDtypes[] = {
      {"F32", client::DataType::kFloat32},
      {"F64", client::DataType::kFloat64},
      {"F16", client::DataType::kFloat16},
      {"BF16", client::DataType::kBfloat16}};
  for (const auto& [name, dtype] : kDtypes) {
    if (entry.dtype == name) return dtype;
  }
  return std::nullopt;
}

// Checks all that can be known of a tensor before it is read.
absl::Status CheckEntry(ModelField field, const SafetensorsEntry& entry) {
  const std::string name = absl::StrCat("the tensor '", entry.name, "' has ");
  const int64_t size = NumElements(entry.shape);
  if (field == kNumBatchesTracked) {
    if (entry.dtype == "I64" && size == 1) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, "shape ", ShapeToText(entry.shape), " of ",
                                                   entry.dtype, ", expected one I64"));
  }
  if (!DtypeOf(entry).has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, "dtype ", entry.dtype, ", expected F32, F64, F16 or BF16"));
  }
  if (size <= kTensorValuesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, "shape ", ShapeToText(entry.shape), ", ",
                                                 size, " values, expected at most ",
                                                 kTensorValuesMax));
}

// Checks that the module has the tensors of its config, each in the shape of it. Where `lenient` a
// weight or a bias may be missing: it was not learned, and is 1 or 0.
absl::Status CheckEntries(const std::string& name, const ModuleEntries& module,
                          const FieldNames& names, const client::StateConfig& config,
                          bool lenient) {
  for (size_t i = 0; i < kFieldCount; ++i) {
    if (module[i]) NORMD_CLI_RETURN_IF_ERROR(CheckEntry(static_cast<ModelField>(i), *module[i]));
  }
  const std::vector<int64_t> parameters = ParameterShape(config);
  const std::vector<int64_t> channels = {config.num_features};
  const auto check = [&](ModelField field, const char* field_name, bool wanted, bool required,
                         const std::vector<int64_t>& shape) {
    const SafetensorsEntry* entry = module[field];
    if (entry == nullptr && required) return Invalid(name, absl::StrCat("has no ", field_name));
    if (entry != nullptr && !wanted) {
      return Invalid(name, absl::StrCat("has ", field_name, ", which a ", KindName(config.kind),
                                        " of this config does not have"));
    }
    if (entry == nullptr || entry->shape == shape) return absl::OkStatus();
    return Invalid(name, absl::StrCat("has ", field_name, " of shape ", ShapeToText(entry->shape),
                                      ", expected ", ShapeToText(shape)));
  };
  const bool has_bias = client::HasBias(config);
  NORMD_CLI_RETURN_IF_ERROR(
      check(kWeight, names.weight, config.affine, config.affine && !lenient, parameters));
  NORMD_CLI_RETURN_IF_ERROR(check(kBias, names.bias, has_bias, has_bias && !lenient, parameters));
  const bool tracks = config.track_running_stats;
  NORMD_CLI_RETURN_IF_ERROR(check(kRunningMean, names.running_mean, tracks, tracks, channels));
  return check(kRunningVar, names.running_var, tracks, tracks, channels);
}

// The states without their tensors.
absl::StatusOr<std::map<std::string, ModelState>> DescribeStates(const SafetensorsHeader& header,
                                                                 const Modules& modules,
                                                                 Convention convention,
                                                                 const NormOptions& options) {
  std::map<std::string, ModelState> states;
  const auto metadata = header.metadata.find(kModelMetadataKey);
  if (metadata != header.metadata.end()) {
    if (HasAny(options)) {
      return absl::InvalidArgumentError(
          "the file says the config of its states: leave out the options of a config, and change "
          "the states afterwards with normctl update");
    }
    NORMD_CLI_ASSIGN_OR_RETURN(const Descriptions descriptions, ParseMetadata(metadata->second));
    for (const auto& [name, description] : descriptions) {
      states[name] = {name, description.config, description.num_batches_tracked, {}};
    }
    return states;
  }
  for (const auto& [name, module] : modules) {
    if (!IsWanted(module, options)) continue;
    NORMD_CLI_ASSIGN_OR_RETURN(client::StateConfig config,
                               InferConfig(name, module, convention, options));
    states[name] = {name, std::move(config), 0, {}};
  }
  return states;
}

}  // namespace

absl::StatusOr<ModelImport> ImportModel(const SafetensorsHeader& header, Convention convention,
                                        const NormOptions& options) {
  const FieldNames& names = NamesOf(convention);
  const Modules modules = FindModules(header, names);
  using States = std::map<std::string, ModelState>;
  NORMD_CLI_ASSIGN_OR_RETURN(States states, DescribeStates(header, modules, convention, options));

  const bool has_metadata = header.metadata.count(kModelMetadataKey) > 0;
  ModelImport result;
  result.tensors_left_out = static_cast<int64_t>(header.entries.size());
  for (auto& [name, state] : states) {
    if (const auto module = modules.find(name); module != modules.end()) {
      state.entries = module->second;
    }
    NORMD_CLI_RETURN_IF_ERROR(
        CheckEntries(name, state.entries, names, state.config, !has_metadata));
    result.tensors_left_out -= static_cast<int64_t>(
        kFieldCount - std::count(state.entries.begin(), state.entries.end(), nullptr));
    result.states.push_back(std::move(state));
  }
  return result;
}

absl::StatusOr<client::InitialValues> ReadInitialValues(const ModelState& state,
                                                        const ReadEntry& read) {
  client::InitialValues initial;
  initial.num_batches_tracked = state.num_batches_tracked;
  std::vector<double>* const values[] = {&initial.weight, &initial.bias, &initial.running_mean,
                                         &initial.running_var};
  for (size_t i = 0; i < kFieldCount; ++i) {
    const SafetensorsEntry* const entry = state.entries[i];
    if (entry == nullptr) continue;
    NORMD_CLI_ASSIGN_OR_RETURN(std::string bytes, read(*entry));
    if (i == kNumBatchesTracked) {
      std::memcpy(&initial.num_batches_tracked, bytes.data(), sizeof(int64_t));
    } else {
      *values[i] = ToDoubles(Array{entry->shape, *DtypeOf(*entry), std::move(bytes)});
    }
  }
  return initial;
}

}  // namespace normd::cli
