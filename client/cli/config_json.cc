#include "client/cli/config_json.h"

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/norm_options.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

using client::NormKind;
using client::Optimizer;
using nlohmann::ordered_json;

constexpr Optimizer::Algorithm kAlgorithms[] = {
    Optimizer::Algorithm::kSgd, Optimizer::Algorithm::kAdam, Optimizer::Algorithm::kAdamW};

// Takes the fields of a JSON object one by one and says which are wrong or left.
class FieldReader {
 public:
  static absl::StatusOr<FieldReader> Create(const ordered_json& json, absl::string_view what) {
    if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(what, " is no object"));
    return FieldReader(json, what);
  }

  // Each reads `name` to `value` when it is there.
  void Take(const std::string& name, bool* value) {
    TakeAs(name, &ordered_json::is_boolean, "true or false", value);
  }
  void Take(const std::string& name, double* value) {
    TakeAs(name, &ordered_json::is_number, "a number", value);
  }
  void Take(const std::string& name, int64_t* value) {
    TakeAs(name, &ordered_json::is_number_integer, "a whole number", value);
  }
  void Take(const std::string& name, std::string* value) {
    TakeAs(name, &ordered_json::is_string, "a string", value);
  }
  // null is nothing.
  void Take(const std::string& name, std::optional<double>* value) {
    if (const ordered_json* field = Find(name)) {
      if (field->is_null()) {
        *value = std::nullopt;
      } else if (field->is_number()) {
        *value = field->get<double>();
      } else {
        Refuse(name, "a number or null");
      }
    }
  }
  void Take(const std::string& name, std::vector<int64_t>* value) {
    const ordered_json* field = Find(name);
    if (field == nullptr) return;
    if (!field->is_array()) return Refuse(name, "an array");
    for (const ordered_json& axis : *field) {
      if (!axis.is_number_integer()) return Refuse(name, "an array of whole numbers");
      value->push_back(axis.get<int64_t>());
    }
  }
  const ordered_json* Find(const std::string& name) {
    const auto field = json_.find(name);
    if (field == json_.end()) return nullptr;
    taken_.insert(name);
    return &*field;
  }

  void Refuse(const std::string& name, absl::string_view expected) {
    status_.Update(absl::InvalidArgumentError(
        absl::StrCat(what_, ": ", name, " is ", json_.at(name).dump(), ", expected ", expected)));
  }

  // The first error; a field that was not taken is one.
  absl::Status Finish() const {
    if (!status_.ok() || taken_.size() == json_.size()) return status_;
    for (const auto& [name, value] : json_.items()) {
      if (taken_.count(name) == 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(what_, " has the field '", name, "', which is not known"));
      }
    }
    return status_;
  }

 private:
  FieldReader(const ordered_json& json, absl::string_view what) : json_(json), what_(what) {}

  template <typename T>
  void TakeAs(const std::string& name, bool (ordered_json::*is_type)() const noexcept,
              absl::string_view expected, T* value) {
    const ordered_json* field = Find(name);
    if (field == nullptr) return;
    if ((field->*is_type)()) {
      *value = field->get<T>();
    } else {
      Refuse(name, expected);
    }
  }

  const ordered_json& json_;
  const std::string what_;
  std::set<std::string> taken_;
  absl::Status status_;
};

ordered_json OptimizerToJson(const Optimizer& optimizer) {
  ordered_json json;
  json["algorithm"] = AlgorithmName(optimizer.algorithm);
  json["lr"] = optimizer.lr;
  if (optimizer.algorithm == Optimizer::Algorithm::kSgd) {
    json["momentum"] = optimizer.momentum;
    json["dampening"] = optimizer.dampening;
    json["nesterov"] = optimizer.nesterov;
  }
  json["weight_decay"] = optimizer.weight_decay;
  if (optimizer.algorithm != Optimizer::Algorithm::kSgd) {
    json["beta1"] = optimizer.beta1;
    json["beta2"] = optimizer.beta2;
    json["eps"] = optimizer.eps;
    json["amsgrad"] = optimizer.amsgrad;
  }
  json["maximize"] = optimizer.maximize;
  return json;
}

absl::StatusOr<Optimizer> OptimizerFromJson(const ordered_json& json) {
  NORMD_CLI_ASSIGN_OR_RETURN(FieldReader fields, FieldReader::Create(json, "optimizer"));
  Optimizer optimizer;
  std::string name;
  fields.Take("algorithm", &name);
  bool found = false;
  for (const Optimizer::Algorithm algorithm : kAlgorithms) {
    if (AlgorithmName(algorithm) != name) continue;
    found = true;
    optimizer.algorithm = algorithm;
  }
  if (!found) {
    return absl::InvalidArgumentError(
        absl::StrCat("optimizer: algorithm is '", name, "', expected SGD, ADAM or ADAMW"));
  }
  if (optimizer.algorithm == Optimizer::Algorithm::kAdamW) optimizer = Optimizer::AdamW();
  fields.Take("lr", &optimizer.lr);
  fields.Take("momentum", &optimizer.momentum);
  fields.Take("dampening", &optimizer.dampening);
  fields.Take("nesterov", &optimizer.nesterov);
  fields.Take("weight_decay", &optimizer.weight_decay);
  fields.Take("beta1", &optimizer.beta1);
  fields.Take("beta2", &optimizer.beta2);
  fields.Take("eps", &optimizer.eps);
  fields.Take("amsgrad", &optimizer.amsgrad);
  fields.Take("maximize", &optimizer.maximize);
  NORMD_CLI_RETURN_IF_ERROR(fields.Finish());
  return optimizer;
}

absl::StatusOr<NormKind> TakeKind(FieldReader& fields) {
  std::string name;
  fields.Take("kind", &name);
  for (const auto& [text, kind] : NormKinds()) {
    if (KindName(kind) == name) return kind;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("config: kind is '", name, "', expected one as BATCH_NORM"));
}

}  // namespace

std::string KindName(NormKind kind) {
  for (const auto& [name, named] : NormKinds()) {
    if (named == kind) return absl::AsciiStrToUpper(name);
  }
  return "unknown";
}

std::string AlgorithmName(Optimizer::Algorithm algorithm) {
  switch (algorithm) {
    case Optimizer::Algorithm::kSgd:
      return "SGD";
    case Optimizer::Algorithm::kAdam:
      return "ADAM";
    case Optimizer::Algorithm::kAdamW:
      return "ADAMW";
  }
  return "unknown";
}

ordered_json ConfigToJson(const client::StateConfig& config) {
  ordered_json json;
  json["kind"] = KindName(config.kind);
  json["num_features"] = config.num_features;
  if (!config.normalized_shape.empty()) json["normalized_shape"] = config.normalized_shape;
  if (config.kind == NormKind::kGroupNorm) json["num_groups"] = config.num_groups;
  json["eps"] = config.eps ? ordered_json(*config.eps) : ordered_json(nullptr);
  if (client::CanTrack(config.kind)) {
    json["momentum"] = config.momentum ? ordered_json(*config.momentum) : ordered_json(nullptr);
    json["cumulative_average"] = !config.momentum.has_value();
  }
  json["affine"] = config.affine;
  json["track_running_stats"] = config.track_running_stats;
  if (client::CanTrack(config.kind)) json["running_var_correction"] = config.correction;
  json["non_finite"] = config.non_finite == client::NonFinite::kRefuse ? "REFUSE" : "PROPAGATE";
  json["parameter_dtype"] =
      config.parameter_dtype == client::DataType::kFloat64 ? "FLOAT64" : "FLOAT32";
  if (config.optimizer.has_value()) json["optimizer"] = OptimizerToJson(*config.optimizer);
  return json;
}

absl::StatusOr<client::StateConfig> ConfigFromJson(const ordered_json& json) {
  NORMD_CLI_ASSIGN_OR_RETURN(FieldReader fields, FieldReader::Create(json, "config"));
  NORMD_CLI_ASSIGN_OR_RETURN(const NormKind kind, TakeKind(fields));
  client::StateConfig config = client::StateConfig::Default(kind);
  fields.Take("num_features", &config.num_features);
  fields.Take("normalized_shape", &config.normalized_shape);
  fields.Take("num_groups", &config.num_groups);
  fields.Take("eps", &config.eps);
  fields.Take("momentum", &config.momentum);
  bool cumulative_average = !config.momentum.has_value();
  fields.Take("cumulative_average", &cumulative_average);
  if (cumulative_average == config.momentum.has_value()) {
    fields.Refuse("cumulative_average", "what momentum says");
  }
  fields.Take("affine", &config.affine);
  fields.Take("track_running_stats", &config.track_running_stats);
  int64_t correction = config.correction;
  fields.Take("running_var_correction", &correction);
  if (correction != 0 && correction != 1) fields.Refuse("running_var_correction", "0 or 1");
  config.correction = static_cast<int32_t>(correction);
  std::string policy = "REFUSE";
  fields.Take("non_finite", &policy);
  if (policy == "PROPAGATE") config.non_finite = client::NonFinite::kPropagate;
  if (policy != "PROPAGATE" && policy != "REFUSE") fields.Refuse("non_finite", "REFUSE, PROPAGATE");
  std::string dtype = "FLOAT32";
  fields.Take("parameter_dtype", &dtype);
  if (dtype == "FLOAT64") config.parameter_dtype = client::DataType::kFloat64;
  if (dtype != "FLOAT64" && dtype != "FLOAT32") {
    fields.Refuse("parameter_dtype", "FLOAT32, FLOAT64");
  }
  if (const ordered_json* optimizer = fields.Find("optimizer")) {
    NORMD_CLI_ASSIGN_OR_RETURN(config.optimizer, OptimizerFromJson(*optimizer));
  }
  NORMD_CLI_RETURN_IF_ERROR(fields.Finish());
  return config;
}

}  // namespace normd::cli
