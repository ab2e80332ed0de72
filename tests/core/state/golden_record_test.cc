// Records as they lie in data directories. The files of tests/golden stay as they are for ever: a
// server that cannot read them cannot open an old data directory.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "core/state/state_codec.h"
#include "tests/core/state/record_bytes.h"

namespace normd {
namespace {

// The bytes of a file of tests/golden: hexadecimal, broken into lines.
std::string GoldenRecord(const std::string& file_name) {
  std::ifstream file(NORMD_GOLDEN_DIR "/" + file_name);
  EXPECT_TRUE(file) << NORMD_GOLDEN_DIR "/" << file_name;
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return absl::HexStringToBytes(absl::StrReplaceAll(text, {{"\n", ""}}));
}

// In lines, as in the file.
std::string Hex(const std::string& record) {
  std::string lines;
  for (size_t i = 0; i < record.size(); i += 32) {
    lines += absl::BytesToHexString(record.substr(i, 32)) + "\n";
  }
  return lines;
}

// Every field of the record is set.
NormState FullState() {
  NormState state;
  state.name = "golden/layer1.0/bn1";
  state.config = {.num_features = 3,
                  .eps = 1e-3,
                  .momentum = 0.25,
                  .running_var_correction = 0,
                  .non_finite = NonFinitePolicy::kPropagate};
  state.weight = {1.5F, -0.0F, 0.1F};
  state.bias = {0.25F, -2.0F, 3e38F};
  state.running_stats =
      RunningStats{.mean = {0.1, -1e300, std::numeric_limits<double>::quiet_NaN()},
                   .var = {1.0 / 3.0, 0.0, std::numeric_limits<double>::quiet_NaN()},
                   .num_batches_tracked = 1'000'000'007};
  state.frozen = true;
  state.producers.Restore("trainer-7", 4'294'967'297, absl::FromUnixMicros(1700000001000001));
  state.revision = 300;
  state.settings_revision = 299;
  state.create_time = absl::FromUnixMicros(1700000000000007);
  state.update_time = absl::FromUnixMicros(1700000002000003);
  return state;
}

// No parameters, no running statistics, cumulative average, no producer.
NormState PlainState() {
  NormState state;
  state.name = "golden/plain";
  state.config = {.num_features = 64,
                  .eps = 0,
                  .momentum = std::nullopt,
                  .affine = false,
                  .track_running_stats = false};
  state.revision = 1;
  state.settings_revision = 1;
  state.create_time = absl::FromUnixMicros(1700000000000007);
  state.update_time = state.create_time;
  return state;
}

// A layer norm in float64 that learns by Adam: every field of an optimizer and its slots that Adam
// has.
NormState AdamState() {
  NormState state;
  state.name = "golden/encoder.0/ln";
  state.config = DefaultConfig(NormKind::kLayerNorm);
  state.config.num_features = 2;
  state.config.normalized_shape = {1, 2};
  state.config.parameter_dtype = DataType::kFloat64;
  state.config.optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kAdam,
                                           .lr = 0.25,
                                           .weight_decay = 0.125,
                                           .beta1 = 0.75,
                                           .beta2 = 0.5,
                                           .eps = 1e-6,
                                           .amsgrad = true,
                                           .maximize = true};
  state.weight = {0.1, -1e300};
  state.bias = {1.0 / 3.0, -0.0};
  state.weight_slots = {.step = 300, .first = {0.1, 0.2}, .second = {1, 2}, .third = {3, 4}};
  state.bias_slots = {.step = 299, .first = {0.3, 0.4}, .second = {5, 6}, .third = {7, 8}};
  state.optimizer_step = 301;
  state.producers.Restore("learner", 301, absl::FromUnixMicros(1700000001000001));
  state.revision = 302;
  state.settings_revision = 302;
  state.create_time = absl::FromUnixMicros(1700000000000007);
  state.update_time = absl::FromUnixMicros(1700000002000003);
  return state;
}

// A batch norm with an SGD that has stepped weight alone, and a calibration under way.
NormState CalibratingState() {
  NormState state;
  state.name = "golden/layer2.0/bn1";
  state.config = {.num_features = 2,
                  .optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kSgd,
                                               .lr = 0.5,
                                               .momentum = 0.875,
                                               .nesterov = true,
                                               .weight_decay = 0.0625}};
  state.weight = {1.5F, 0.1F};
  state.bias = {0, 0};
  state.running_stats = RunningStats::Initial(2);
  state.weight_slots = {.step = 1, .first = {0.1, -0.2}};
  state.optimizer_step = 1;
  state.calibration = Calibration{.method = CalibrationMethod::kPooled,
                                  .num_batches = 3,
                                  .count = 96,
                                  .mean = {0.1, -0.5},
                                  .spread = {1e-3, 200}};
  state.revision = 6;
  state.settings_revision = 2;
  state.create_time = absl::FromUnixMicros(1700000000000007);
  state.update_time = absl::FromUnixMicros(1700000002000003);
  return state;
}

NormState GroupNormState() {
  NormState state;
  state.name = "golden/gn";
  state.config = DefaultConfig(NormKind::kGroupNorm);
  state.config.num_features = 4;
  state.config.num_groups = 2;
  state.config.optimizer = OptimizerConfig{.algorithm = OptimizerAlgorithm::kSgd, .dampening = 0.5};
  state.weight = {1, 2, 3, 4};
  state.bias = {5, 6, 7, 8};
  state.revision = 1;
  state.settings_revision = 1;
  state.create_time = absl::FromUnixMicros(1700000000000007);
  state.update_time = state.create_time;
  return state;
}

NormState RmsNormState() {
  NormState state;
  state.name = "golden/rms";
  state.config = DefaultConfig(NormKind::kRmsNorm);
  state.config.num_features = 3;
  state.config.normalized_shape = {3};
  state.weight = {1, 0.1F, -2};
  state.revision = 1;
  state.settings_revision = 1;
  state.create_time = absl::FromUnixMicros(1700000000000007);
  state.update_time = state.create_time;
  return state;
}

void ExpectGolden(const std::string& file_name, const NormState& state) {
  const std::string record = GoldenRecord(file_name);
  const auto decoded = DecodeState(state.name, state.revision, record);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(Describe(*decoded), Describe(state));
  EXPECT_EQ(Hex(EncodeState(state)), Hex(record));
}

TEST(GoldenRecordTest, FullStateOfVersion1) {
  ExpectGolden("state_record_v1_full.hex", FullState());
}

TEST(GoldenRecordTest, PlainStateOfVersion1) {
  ExpectGolden("state_record_v1_plain.hex", PlainState());
}

TEST(GoldenRecordTest, AdamOfVersion2) { ExpectGolden("state_record_v2_adam.hex", AdamState()); }

TEST(GoldenRecordTest, CalibrationOfVersion2) {
  // Of before there were ids.
  NormState state = CalibratingState();
  ExpectGolden("state_record_v2_calibration.hex", state);
  state.calibration->id = "60a24181e4007-4";
  ExpectGolden("state_record_v2_calibration_id.hex", state);
}

TEST(GoldenRecordTest, GroupNormOfVersion2) {
  ExpectGolden("state_record_v2_group_norm.hex", GroupNormState());
}

TEST(GoldenRecordTest, RmsNormOfVersion2) {
  ExpectGolden("state_record_v2_rms_norm.hex", RmsNormState());
}

// Whatever stood in the memory that it uses again.
TEST(GoldenRecordTest, AnEncoderLeavesNothingOfTheStateBefore) {
  const NormState states[] = {FullState(),        PlainState(),     AdamState(),
                              CalibratingState(), GroupNormState(), RmsNormState()};
  StateEncoder encoder;
  std::string data;
  for (const NormState& before : states) {
    for (const NormState& state : states) {
      encoder.Encode(before, data);
      encoder.Encode(state, data);
      EXPECT_EQ(Hex(data), Hex(EncodeState(state))) << before.name << ", then " << state.name;
    }
  }
}

}  // namespace
}  // namespace normd
