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
  state.producers.Restore("trainer-7", {.sequence = 4'294'967'297,
                                        .update_time = absl::FromUnixMicros(1700000001000001)});
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

}  // namespace
}  // namespace normd
