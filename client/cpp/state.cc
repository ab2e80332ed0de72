#include "client/cpp/state.h"

#include <utility>

namespace normd::client {

StateConfig StateConfig::BatchNorm(int64_t num_features) {
  StateConfig config = Default(NormKind::kBatchNorm);
  config.num_features = num_features;
  return config;
}

StateConfig StateConfig::InstanceNorm(int64_t num_features) {
  StateConfig config = Default(NormKind::kInstanceNorm);
  config.num_features = num_features;
  return config;
}

StateConfig StateConfig::GroupNorm(int64_t num_groups, int64_t num_features) {
  StateConfig config = Default(NormKind::kGroupNorm);
  config.num_groups = num_groups;
  config.num_features = num_features;
  return config;
}

StateConfig StateConfig::LayerNorm(std::vector<int64_t> normalized_shape) {
  StateConfig config = Default(NormKind::kLayerNorm);
  config.normalized_shape = std::move(normalized_shape);
  return config;
}

StateConfig StateConfig::RmsNorm(std::vector<int64_t> normalized_shape) {
  StateConfig config = Default(NormKind::kRmsNorm);
  config.normalized_shape = std::move(normalized_shape);
  return config;
}

StateConfig StateConfig::Default(NormKind kind) {
  StateConfig config;
  config.kind = kind;
  config.affine = kind != NormKind::kInstanceNorm;
  config.track_running_stats = kind == NormKind::kBatchNorm;
  if (kind == NormKind::kRmsNorm) config.eps = std::nullopt;
  return config;
}

bool CanTrack(NormKind kind) {
  return kind == NormKind::kBatchNorm || kind == NormKind::kInstanceNorm;
}

bool HasBias(const StateConfig& config) {
  return config.affine && config.kind != NormKind::kRmsNorm;
}

}  // namespace normd::client
