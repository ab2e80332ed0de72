#ifndef NORMD_CLIENT_CLI_MODEL_FILE_H_
#define NORMD_CLIENT_CLI_MODEL_FILE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/norm_options.h"
#include "client/cli/safetensors.h"
#include "client/cpp/client.h"
#include "nlohmann/json.hpp"

// States as the tensors of a model, a module a state. The state `resnet50/layer1.0.bn1` under the
// prefix `resnet50/` is the module `layer1.0.bn1`, its weight the tensor `layer1.0.bn1.weight`.
namespace normd::cli {

// Whose names, momentum and defaults.
//
//             weight  bias  running_mean  running_var      num_batches_tracked
//   kPyTorch  weight  bias  running_mean  running_var      num_batches_tracked (I64, shape [])
//   kKeras    gamma   beta  moving_mean   moving_variance  -
//   kOnnx     scale   B     input_mean    input_var        -
//
// The momentum of Keras and ONNX weighs the old value, and their running variance is the biased
// one. Keras begins with momentum 0.99 and eps 1e-3, ONNX with 0.9 and 1e-5.
enum class Convention { kPyTorch, kKeras, kOnnx };

// "pytorch", "keras", "onnx".
const std::map<std::string, Convention>& Conventions();

// The key of __metadata__ under which the config of every state stands, which tensors do not tell.
inline constexpr char kModelMetadataKey[] = "normd";

struct ModelFile {
  std::vector<SafetensorsTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Collects states and makes a file of them.
class ModelExport {
 public:
  // `dtype` of weight, bias and running statistics: kFloat32 or kFloat64.
  ModelExport(std::string prefix, Convention convention, client::DataType dtype);

  // Adds a state with its tensors. Errors: kInvalidArgument for a value that is not finite, which
  // no state can begin with, or does not fit in the dtype, and for two states that are one module.
  // REQUIRES: its name begins with the prefix.
  absl::Status Add(const client::State& state);

  ModelFile Finish() &&;

 private:
  absl::Status AddTensor(const std::string& module, const std::string& field,
                         const std::vector<int64_t>& shape, const std::vector<double>& values);

  const std::string prefix_;
  const Convention convention_;
  const client::DataType dtype_;
  std::map<std::string, std::string> states_;  // names by module
  nlohmann::ordered_json configs_;
  ModelFile file_;
};

// The tensors of a module.
enum ModelField { kWeight, kBias, kRunningMean, kRunningVar, kNumBatchesTracked };
// By ModelField; null for those that are not there.
using ModuleEntries = std::array<const SafetensorsEntry*, kNumBatchesTracked + 1>;

// A module of a file as the state to create.
struct ModelState {
  std::string module;
  client::StateConfig config;
  int64_t num_batches_tracked = 0;  // as the metadata say
  ModuleEntries entries = {};       // of the header
};

struct ModelImport {
  std::vector<ModelState> states;  // in the order of their modules
  int64_t tensors_left_out = 0;    // of the file: of no state
};

// What a file holds: the states of its metadata, or else the modules that look like norms of the
// options' kind. Without metadata batch_norm takes the modules with running statistics (without
// --no-track-running-stats), instance_norm also those with a weight of one axis, the others those
// with a weight of one axis (or of --normalized-shape) and no running statistics. --momentum is in
// the convention's direction. The header must outlive the result. Errors: kInvalidArgument for
// options that the metadata answer, for metadata that are damaged, and for a module whose tensors
// do not agree, or have a dtype or a size that no state can have.
absl::StatusOr<ModelImport> ImportModel(const SafetensorsHeader& header, Convention convention,
                                        const NormOptions& options);

// Gives the bytes of an entry.
using ReadEntry = std::function<absl::StatusOr<std::string>(const SafetensorsEntry&)>;

// The values of the tensors of a state that ImportModel has returned. Errors: those of `read`.
absl::StatusOr<client::InitialValues> ReadInitialValues(const ModelState& state,
                                                        const ReadEntry& read);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_MODEL_FILE_H_
