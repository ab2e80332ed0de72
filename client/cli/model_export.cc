#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/cli/array.h"
#include "client/cli/config_json.h"
#include "client/cli/model_file.h"
#include "client/cli/model_names.h"
#include "client/cli/status_macros.h"

namespace normd::cli {

const std::map<std::string, Convention>& Conventions() {
  static const auto* const kConventions =
      new std::map<std::string, Convention>{{"pytorch", Convention::kPyTorch},
                                            {"keras", Convention::kKeras},
                                            {"onnx", Convention::kOnnx}};
  return *kConventions;
}

const FieldNames& NamesOf(Convention convention) {
  static constexpr FieldNames kPyTorch = {"weight", "bias", "running_mean", "running_var",
                                          "num_batches_tracked"};
  static constexpr FieldNames kKeras = {"gamma", "beta", "moving_mean", "moving_variance", ""};
  static constexpr FieldNames kOnnx = {"scale", "B", "input_mean", "input_var", ""};
  switch (convention) {
    case Convention::kKeras:
      return kKeras;
    case Convention::kOnnx:
      return kOnnx;
    case Convention::kPyTorch:
      break;
  }
  return kPyTorch;
}

std::string TensorName(const std::string& module, const std::string& field) {
  return module.empty() ? field : absl::StrCat(module, ".", field);
}

std::vector<int64_t> ParameterShape(const client::StateConfig& config) {
  if (!config.normalized_shape.empty()) return config.normalized_shape;
  return {config.num_features};
}

ModelExport::ModelExport(std::string prefix, Convention convention, client::DataType dtype)
    : prefix_(std::move(prefix)),
      convention_(convention),
      dtype_(dtype),
      configs_(nlohmann::ordered_json::array()) {}

absl::Status ModelExport::Add(const client::State& state) {
  const absl::string_view rest = absl::StripPrefix(absl::StripPrefix(state.name, prefix_), "/");
  const std::string module = absl::StrReplaceAll(rest, {{"/", "."}});
  const auto [other, is_new] = states_.try_emplace(module, state.name);
  if (!is_new) {
    return absl::InvalidArgumentError(absl::StrCat("the states '", other->second, "' and '",
                                                   state.name, "' are both the module '", module,
                                                   "'; export them to two files"));
  }
  const FieldNames& names = NamesOf(convention_);
  const client::StateConfig& config = state.config;
  const std::vector<int64_t> parameter_shape = ParameterShape(config);
  const std::vector<int64_t> channels = {config.num_features};
  if (config.affine) {
    NORMD_CLI_RETURN_IF_ERROR(AddTensor(module, names.weight, parameter_shape, state.weight));
  }
  if (client::HasBias(config)) {
    NORMD_CLI_RETURN_IF_ERROR(AddTensor(module, names.bias, parameter_shape, state.bias));
  }
  nlohmann::ordered_json entry;
  entry["module"] = module;
  entry["config"] = ConfigToJson(config);
  if (config.track_running_stats) {
    NORMD_CLI_RETURN_IF_ERROR(AddTensor(module, names.running_mean, channels, state.running_mean));
    NORMD_CLI_RETURN_IF_ERROR(AddTensor(module, names.running_var, channels, state.running_var));
    entry["num_batches_tracked"] = state.num_batches_tracked;
    if (convention_ == Convention::kPyTorch) {
      const int64_t tracked = state.num_batches_tracked;
      file_.tensors.push_back(
          {TensorName(module, names.num_batches_tracked),
           "I64",
           {},
           std::string(reinterpret_cast<const char*>(&tracked), sizeof(tracked))});
    }
  }
  configs_.push_back(std::move(entry));
  return absl::OkStatus();
}

ModelFile ModelExport::Finish() && {
  nlohmann::ordered_json json;
  json["version"] = 1;
  json["states"] = std::move(configs_);
  file_.metadata[kModelMetadataKey] = json.dump();
  return std::move(file_);
}

absl::Status ModelExport::AddTensor(const std::string& module, const std::string& field,
                                    const std::vector<int64_t>& shape,
                                    const std::vector<double>& values) {
  const auto odd = std::find_if(values.begin(), values.end(),
                                [](double value) { return !std::isfinite(value); });
  if (odd != values.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the state '", states_.at(module), "': ", field, " is ", *odd, " at index ",
                     odd - values.begin(), ", expected finite values: no import could take it"));
  }
  absl::StatusOr<Array> array = Convert(MakeArray(shape, values), dtype_);
  if (!array.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the state '", states_.at(module), "': ", field,
                                                   ": ", array.status().message(),
                                                   "; export with --dtype float64"));
  }
  file_.tensors.push_back({TensorName(module, field),
                           dtype_ == client::DataType::kFloat64 ? "F64" : "F32", shape,
                           std::move(array->bytes)});
  return absl::OkStatus();
}

}  // namespace normd::cli
