#ifndef NORMD_TESTS_CORE_STATE_RECORD_TESTING_H_
#define NORMD_TESTS_CORE_STATE_RECORD_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/state/state_codec.h"
#include "tests/core/error_matchers.h"
#include "tests/core/state/record_bytes.h"
#include "tests/testing/seeded_random.h"

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

// `record` with one to four bytes of its message changed, left out or added, and a checksum that
// fits.
inline std::string Mutated(std::string record, SeededRandom& random) {
  for (uint32_t k = random() % 4; k < 4; ++k) {
    const size_t at = 8 + random() % (record.size() - 8);
    switch (random() % 3) {
      case 0:
        record[at] = static_cast<char>(random());
        break;
      case 1:
        record.erase(at, 1);
        break;
      default:
        record.insert(at, 1, static_cast<char>(random()));
    }
  }
  return WithChecksum(std::move(record));
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_STATE_RECORD_TESTING_H_
