#include "core/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "absl/strings/cord.h"
#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(ErrorTableTest, EveryReasonHasANameOfItsOwn) {
  std::set<std::string> names;
  for (const ReasonInfo& info : ReasonTable()) {
    EXPECT_FALSE(info.name.empty());
    EXPECT_TRUE(names.insert(std::string(info.name)).second) << info.name << " stands twice";
  }
}

TEST(ErrorTableTest, NoReasonIsOkOrUnknown) {
  for (const ReasonInfo& info : ReasonTable()) {
    EXPECT_NE(info.code, absl::StatusCode::kOk) << info.name;
    EXPECT_NE(info.code, absl::StatusCode::kUnknown) << info.name;
  }
}

TEST(ErrorTableTest, RowIsFoundByItsReason) {
  for (const ReasonInfo& info : ReasonTable()) {
    EXPECT_EQ(GetReasonInfo(info.reason).name, info.name);
    EXPECT_EQ(GetReasonInfo(info.reason).reason, info.reason);
  }
}

// The code is a promise to clients: what they retry hangs on it. Every other reason is
// kInvalidArgument.
TEST(ErrorTableTest, CodesAreThoseOfTheContract) {
  const std::map<Reason, absl::StatusCode> codes = {
      {Reason::kStateNotFound, absl::StatusCode::kNotFound},
      {Reason::kServiceNotFound, absl::StatusCode::kNotFound},
      {Reason::kStateAlreadyExists, absl::StatusCode::kAlreadyExists},
      {Reason::kStateFrozen, absl::StatusCode::kFailedPrecondition},
      {Reason::kEtagMismatch, absl::StatusCode::kAborted},
      {Reason::kProducerTableFull, absl::StatusCode::kResourceExhausted},
      {Reason::kParametersAbsent, absl::StatusCode::kFailedPrecondition},
      {Reason::kRunningStatsAbsent, absl::StatusCode::kFailedPrecondition},
      {Reason::kMessageTooLarge, absl::StatusCode::kResourceExhausted},
      {Reason::kRecordDamaged, absl::StatusCode::kDataLoss},
      {Reason::kStoreUnavailable, absl::StatusCode::kUnavailable},
      {Reason::kStoreFull, absl::StatusCode::kResourceExhausted},
      {Reason::kRevisionConflict, absl::StatusCode::kAborted},
      {Reason::kWriteQueueFull, absl::StatusCode::kUnavailable},
      {Reason::kShuttingDown, absl::StatusCode::kUnavailable},
      {Reason::kLimitReached, absl::StatusCode::kResourceExhausted},
      {Reason::kInternalError, absl::StatusCode::kInternal},
      {Reason::kOptimizerAbsent, absl::StatusCode::kFailedPrecondition},
      {Reason::kCalibrationActive, absl::StatusCode::kFailedPrecondition},
      {Reason::kCalibrationNotActive, absl::StatusCode::kFailedPrecondition},
      {Reason::kCalibrationEmpty, absl::StatusCode::kFailedPrecondition},
      {Reason::kCalibrationMismatch, absl::StatusCode::kFailedPrecondition},
  };
  for (const ReasonInfo& info : ReasonTable()) {
    const auto it = codes.find(info.reason);
    EXPECT_EQ(info.code, it == codes.end() ? absl::StatusCode::kInvalidArgument : it->second)
        << info.name;
  }
}

TEST(ErrorTest, EveryReasonComesBack) {
  for (const ReasonInfo& info : ReasonTable()) {
    const absl::Status status = MakeError(info.reason, "expected this, got that");
    EXPECT_THAT(status, IsError(info.reason, "expected this, got that"));
    EXPECT_THAT(GetErrorMetadata(status), IsEmpty());
  }
}

TEST(ErrorTest, MetadataComesBack) {
  const absl::Status status =
      MakeError(Reason::kNonFiniteValue, "message",
                {{"field", "input"}, {"index", "17"}, {"empty", ""}, {"bytes", "\x01\xff"}});
  EXPECT_THAT(GetErrorMetadata(status), ElementsAre(Pair("bytes", "\x01\xff"), Pair("empty", ""),
                                                    Pair("field", "input"), Pair("index", "17")));
}

TEST(ErrorTest, MetadataNamedAsAReasonIsNotTheReason) {
  const absl::Status status =
      MakeError(Reason::kStateFrozen, "message", {{"reason", "STATE_NOT_FOUND"}});
  EXPECT_EQ(GetReason(status), Reason::kStateFrozen);
  EXPECT_THAT(GetErrorMetadata(status), ElementsAre(Pair("reason", "STATE_NOT_FOUND")));
}

TEST(ErrorTest, StatusMadeElsewhereHasNoReason) {
  for (const absl::Status& status : {absl::OkStatus(), absl::NotFoundError("STATE_NOT_FOUND")}) {
    EXPECT_EQ(GetReason(status), std::nullopt);
    EXPECT_THAT(GetErrorMetadata(status), IsEmpty());
  }
}

TEST(ErrorTest, UnknownReasonTextIsNoReason) {
  const absl::Status status = MakeError(Reason::kStateFrozen, "message");
  int payloads = 0;
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& /*payload*/) {
    ++payloads;
    absl::Status other = status;
    other.SetPayload(url, absl::Cord("NO_SUCH_REASON"));
    EXPECT_EQ(GetReason(other), std::nullopt);
  });
  EXPECT_EQ(payloads, 1);
}

TEST(PrefixedTest, KeepsCodeReasonAndMetadata) {
  absl::Status status =
      MakeError(Reason::kEtagMismatch, "etag is '1'", {{"field", "etag"}, {"actual", "1"}});
  status.SetPayload("other/payload", absl::Cord("kept"));
  const absl::Status prefixed = Prefixed(status, "state 'm/bn1': ");
  EXPECT_THAT(prefixed, IsError(Reason::kEtagMismatch, "state 'm/bn1': etag is '1'"));
  EXPECT_EQ(GetErrorMetadata(prefixed), GetErrorMetadata(status));
  ASSERT_TRUE(prefixed.GetPayload("other/payload").has_value());
  EXPECT_EQ(*prefixed.GetPayload("other/payload"), "kept");
  EXPECT_EQ(status.message(), "etag is '1'");
}

TEST(PrefixedTest, OkStaysOk) { EXPECT_TRUE(Prefixed(absl::OkStatus(), "prefix ").ok()); }

}  // namespace
}  // namespace normd
