#ifndef NORMD_TESTS_CORE_STATE_RECORD_TESTING_H_
#define NORMD_TESTS_CORE_STATE_RECORD_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/state/state_codec.h"
#include "tests/core/error_matchers.h"
#include "tests/core/state/record_bytes.h"

namespace normd {

inline absl::StatusOr<NormState> Decode(const NormState& state, absl::string_view record) {
  return DecodeState(state.name, state.revision, record);
}

inline void ExpectRoundTrip(const NormState& state) {
  const auto decoded = Decode(state, EncodeState(state));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(Describe(*decoded), Describe(state));
}

// `decoded` failed for a damaged record: with the reason, the name in message and metadata, and
// `problem`.
inline void ExpectDamaged(const absl::StatusOr<NormState>& decoded, const std::string& name,
                          const std::string& problem) {
  EXPECT_THAT(decoded, IsError(Reason::kRecordDamaged,
                               testing::AllOf(testing::HasSubstr("the stored record of state '" +
                                                                 name + "' is damaged: "),
                                              testing::HasSubstr(problem))));
  EXPECT_EQ(decoded.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(GetErrorMetadata(decoded.status()),
              testing::ElementsAre(testing::Pair("name", name)));
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_STATE_RECORD_TESTING_H_
