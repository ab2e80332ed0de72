#ifndef NORMD_CLIENT_CLI_MODEL_NAMES_H_
#define NORMD_CLIENT_CLI_MODEL_NAMES_H_

#include <string>

#include "client/cli/model_file.h"

namespace normd::cli {

// What a convention calls the tensors of a module; empty for what it does not have.
struct FieldNames {
  const char* weight;
  const char* bias;
  const char* running_mean;
  const char* running_var;
  const char* num_batches_tracked;
};
const FieldNames& NamesOf(Convention convention);

// The tensor `field` of `module`; the module of the whole file has no name.
std::string TensorName(const std::string& module, const std::string& field);

// The shape of weight and bias: normalized_shape, or (num_features,).
std::vector<int64_t> ParameterShape(const client::StateConfig& config);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_MODEL_NAMES_H_
