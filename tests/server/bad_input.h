#ifndef NORMD_TESTS_SERVER_BAD_INPUT_H_
#define NORMD_TESTS_SERVER_BAD_INPUT_H_

#include <gmock/gmock.h>
#include <grpcpp/support/status.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "tests/server/wire_error.h"

namespace normd::testing {

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
inline constexpr auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT;

// A refusal: what a client must be told.
struct Refusal {
  grpc::StatusCode code;
  std::string reason;
  // Must stand in the message, in this order: what was expected and what came.
  std::vector<std::string> texts;
  // Blamed in BadRequest; empty: none.
  std::string field;
};

// What is wrong, and what must come of it. `Spoil` is how: a function on a good request, or a call.
template <typename Spoil>
struct BadInput {
  std::string name;
  Spoil spoil;
  Refusal refusal;
};

template <typename Spoil>
void PrintTo(const BadInput<Spoil>& bad, std::ostream* stream) {
  *stream << bad.name;
}

template <typename Spoil>
std::string CaseName(const ::testing::TestParamInfo<BadInput<Spoil>>& info) {
  return info.param.name;
}

inline void ExpectRefusal(const WireError& error, const Refusal& bad) {
  EXPECT_EQ(error.code, bad.code) << error;
  EXPECT_EQ(error.reason, bad.reason) << error;
  EXPECT_EQ(error.domain, "normd");
  EXPECT_FALSE(error.has_retry_info) << "the same request stays wrong";
  if (error.reason.ends_with("_MISMATCH")) {
    const auto& metadata = error.metadata;
    EXPECT_EQ(metadata.count("expected") + metadata.count("expected_bytes"), 1U) << error;
    EXPECT_EQ(metadata.count("actual") + metadata.count("actual_bytes"), 1U) << error;
  }
  size_t from = 0;
  for (const std::string& text : bad.texts) {
    const size_t found = error.message.find(text, from);
    EXPECT_NE(found, std::string::npos) << "'" << text << "' in: " << error.message;
    if (found != std::string::npos) from = found + text.size();
  }
  if (bad.field.empty()) {
    EXPECT_THAT(error.fields, ::testing::IsEmpty());
  } else {
    EXPECT_THAT(error.fields, ::testing::ElementsAre(bad.field));
  }
}

}  // namespace normd::testing

#endif  // NORMD_TESTS_SERVER_BAD_INPUT_H_
