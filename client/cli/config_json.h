#ifndef NORMD_CLIENT_CLI_CONFIG_JSON_H_
#define NORMD_CLIENT_CLI_CONFIG_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "client/cpp/state.h"
#include "nlohmann/json.hpp"

namespace normd::cli {

// The wire's names: "BATCH_NORM", "SGD".
std::string KindName(client::NormKind kind);
std::string AlgorithmName(client::Optimizer::Algorithm algorithm);

// A config with the field names of proto/normd/v1/state.proto; fields that the kind or the
// algorithm does not have are left out. Every number reads back exactly.
nlohmann::ordered_json ConfigToJson(const client::StateConfig& config);

// What ConfigToJson gave. Fields that are left out have the default of the kind. Errors:
// kInvalidArgument that names a field that is not known or has a wrong type.
absl::StatusOr<client::StateConfig> ConfigFromJson(const nlohmann::ordered_json& json);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_CONFIG_JSON_H_
