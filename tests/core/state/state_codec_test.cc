#include "core/state/state_codec.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/limits.h"
#include "tests/core/error_matchers.h"
#include "tests/core/state/record_bytes.h"
#include "tests/core/state/record_testing.h"
#include "tests/core/state/state_testing.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// No field stands at its default.
NormState FullState() {
  NormState state;
  state.name = "model/layer1.0/bn1";
  state.config = {.num_features = 3,
                  .eps = 1e-3,
                  .momentum = 0.30000000000000004,
                  .running_var_correction = 0,
                  .non_finite = NonFinitePolicy::kPropagate};
  state.weight = {1.1F, -0.0F, 1e-42F};
  state.bias = {std::numeric_limits<float>::max(), -2, 1e-38F};
  state.running_stats = RunningStats{.mean = {0.1, -kInf, kNan},
                                     .var = {std::numeric_limits<double>::denorm_min(), 2, kNan},
                                     .num_batches_tracked = 123456789012345};
  state.frozen = true;
  state.producers.Restore("trainer-7", std::numeric_limits<int64_t>::max(),
                          absl::FromUnixMicros(1'700'000'001'000'001));
  state.revision = 77;
  state.settings_revision = 70;
  state.create_time = absl::FromUnixMicros(1'700'000'000'000'007);
  state.update_time = absl::FromUnixMicros(1'700'000'002'000'003);
  return state;
}

TEST(StateCodecTest, EveryFieldComesBackBitByBit) { ExpectRoundTrip(FullState()); }

TEST(StateCodecTest, NewStateComesBack) { ExpectRoundTrip(NewState()); }

TEST(StateCodecTest, EveryShapeOfConfigComesBack) {
  for (const bool affine : {false, true}) {
    for (const bool track : {false, true}) {
      for (const std::optional<double> momentum :
           {std::optional<double>(), std::optional<double>(0.0), std::optional<double>(1.0)}) {
        for (const double eps : {0.0, 1e-5}) {
          ExpectRoundTrip(NewState(
              {.eps = eps, .momentum = momentum, .affine = affine, .track_running_stats = track}));
        }
      }
    }
  }
}

TEST(StateCodecTest, StatisticsThatAreNotFiniteComeBack) {
  NormState state = NewState({.non_finite = NonFinitePolicy::kPropagate});
  ASSERT_TRUE(Train(state, {.count = 3, .mean = {kNan, -kInf}, .m2 = {kNan, kNan}}).ok());
  ExpectRoundTrip(state);
}

TEST(StateCodecTest, ManyProducersComeBack) {
  NormState state = NewState();
  for (int i = 0; i < 5000; ++i) {
    state.producers.Restore("producer-" + std::to_string(i), i + 1, kCreateTime + absl::Seconds(i));
  }
  state.producers.Restore(std::string(static_cast<size_t>(kProducerIdBytesMax), 'x'), 1,
                          absl::UnixEpoch());
  ExpectRoundTrip(state);
}

TEST(StateCodecTest, TimesBeforeTheEpochComeBack) {
  NormState state = NewState();
  state.create_time = absl::FromUnixMicros(-1);
  state.update_time = absl::FromUnixMicros(-1'700'000'000'123'456);
  ExpectRoundTrip(state);
}

TEST(StateCodecTest, ProducerFitsItsLimit) {
  NormState state = NewState();
  const size_t without = EncodeState(state).size();
  state.producers.Restore(std::string(static_cast<size_t>(kProducerIdBytesMax), 'x'),
                          std::numeric_limits<int64_t>::max(), absl::FromUnixMicros(-1));
  EXPECT_LE(static_cast<int64_t>(EncodeState(state).size() - without), kProducerRecordBytesMax);
}

TEST(StateCodecTest, EveryFlippedBitIsFound) {
  const NormState state = FullState();
  const std::string record = EncodeState(state);
  for (size_t i = 0; i < record.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = record;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      SCOPED_TRACE(testing::Message() << "byte " << i << " bit " << bit);
      ExpectDamaged(Decode(state, damaged), state.name, "its checksum does not match its bytes");
    }
  }
}

TEST(StateCodecTest, EveryTruncationIsFound) {
  const NormState state = FullState();
  const std::string record = EncodeState(state);
  for (size_t length = 0; length < record.size(); ++length) {
    SCOPED_TRACE(length);
    ExpectDamaged(Decode(state, absl::string_view(record).substr(0, length)), state.name,
                  length < 8 ? "it has " + std::to_string(length) + " bytes, expected at least 8"
                             : "its checksum does not match its bytes");
  }
}

TEST(StateCodecTest, AppendedBytesAreFound) {
  const NormState state = FullState();
  for (const char byte : {'\0', '\1', '\xff'}) {
    ExpectDamaged(Decode(state, EncodeState(state) + byte), state.name,
                  "its checksum does not match its bytes");
  }
}

TEST(StateCodecTest, RecordOfAnotherNameIsFound) {
  const NormState state = FullState();
  ExpectDamaged(DecodeState("other", state.revision, EncodeState(state)), "other",
                "it holds the state 'model/layer1.0/bn1'");
}

TEST(StateCodecTest, RecordOfAnotherRevisionIsFound) {
  const NormState state = FullState();
  for (const int64_t revision : {0, 76, 78}) {
    ExpectDamaged(DecodeState(state.name, revision, EncodeState(state)), state.name,
                  "it holds revision 77, expected " + std::to_string(revision));
  }
}

TEST(StateCodecTest, OtherFormatVersionIsNamed) {
  const NormState state = FullState();
  for (const int version : {0, 3, 200}) {
    std::string record = EncodeState(state);
    record[4] = static_cast<char>(version);
    ExpectDamaged(
        Decode(state, WithChecksum(record)), state.name,
        "it has format version " + std::to_string(version) + ", this server knows versions 1 to 2");
  }
}

// A right checksum over bytes that no server of this version writes.
TEST(StateCodecTest, PartsThatDoNotFitTogetherAreFound) {
  struct Case {
    std::string problem;
    void (*damage)(NormState&);
  };
  const std::vector<Case> cases = {
      {"num_features is 0, expected 1 to", [](NormState& s) { s.config.num_features = 0; }},
      {"it has num_features 4 and arrays of other lengths",
       [](NormState& s) { s.config.num_features = 4; }},
      {"arrays of other lengths",
       [](NormState& s) {
         s.weight = {1.1F, -0.0F};
       }},
      {"arrays of other lengths",
       [](NormState& s) {
         s.bias = {1, -2, 1, 0};
       }},
      {"arrays of other lengths", [](NormState& s) { s.running_stats->mean.clear(); }},
      {"arrays of other lengths", [](NormState& s) { s.running_stats->var.push_back(1); }},
      {"arrays of other lengths", [](NormState& s) { s.config.affine = false; }},
      {"arrays of other lengths", [](NormState& s) { s.config.track_running_stats = false; }},
      {"num_batches_tracked -1", [](NormState& s) { s.running_stats->num_batches_tracked = -1; }},
      {"eps is nan", [](NormState& s) { s.config.eps = kNan; }},
      {"momentum is 2", [](NormState& s) { s.config.momentum = 2; }},
      {"running_var_correction is 5", [](NormState& s) { s.config.running_var_correction = 5; }},
      {"normalized_shape has 0 axes", [](NormState& s) { s.config.kind = NormKind::kLayerNorm; }},
      {"kind is 99, expected", [](NormState& s) { s.config.kind = static_cast<NormKind>(99); }},
      {"non_finite is 9",
       [](NormState& s) { s.config.non_finite = static_cast<NonFinitePolicy>(9); }},
  };
  for (const Case& c : cases) {
    NormState state = FullState();
    c.damage(state);
    ExpectDamaged(Decode(state, EncodeState(state)), state.name, c.problem);
  }
}

TEST(StateCodecTest, EmptyRecordWithARightChecksumIsFound) {
  const std::string record = WithChecksum(std::string("\0\0\0\0\1\0\0\0", 8));
  ExpectDamaged(DecodeState("m", 1, record), "m", "it holds the state ''");
  ExpectDamaged(DecodeState("m", 1, WithChecksum(record + "\xff")), "m", "it does not parse");
}

TEST(StateCodecTest, RandomGarbageIsDamaged) {
  SeededRandom random;
  // protobuf logs every name that is not UTF-8.
  const google::protobuf::LogSilencer silencer;
  for (int round = 0; round < 20000; ++round) {
    std::string garbage(random() % 200, '\0');
    for (char& byte : garbage) byte = static_cast<char>(random());
    ASSERT_THAT(DecodeState("m", 1, garbage), HasReason(Reason::kRecordDamaged));
    if (garbage.size() >= 8) {
      garbage.replace(4, 4, std::string("\1\0\0\0", 4));
      ASSERT_THAT(DecodeState("m", 1, WithChecksum(garbage)), HasReason(Reason::kRecordDamaged));
    }
  }
}

// Mutated records with a right checksum: what is not damaged is a state that can be written again.
TEST(StateCodecTest, MutatedRecordIsDamagedOrAState) {
  SeededRandom random;
  // protobuf logs every name that is not UTF-8.
  const google::protobuf::LogSilencer silencer;
  const NormState state = FullState();
  const std::string record = EncodeState(state);
  int states = 0;
  for (int round = 0; round < 20000; ++round) {
    const auto decoded = Decode(state, Mutated(record, random));
    if (decoded.ok()) {
      ++states;
      ExpectRoundTrip(*decoded);
    } else {
      ASSERT_THAT(decoded, HasReason(Reason::kRecordDamaged));
    }
  }
  EXPECT_GT(states, 0);
}

}  // namespace
}  // namespace normd
