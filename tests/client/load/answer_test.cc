#include "client/load/answer.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "normd/v1/normalization_service.pb.h"

namespace normd::load {
namespace {

using ::testing::HasSubstr;

constexpr int kErrorField = v1::TrainResponse::kErrorFieldNumber;

// The bytes in slices that end where `ends` says, and at the end.
grpc::ByteBuffer Cut(const std::string& bytes, std::vector<size_t> ends) {
  ends.push_back(bytes.size());
  std::vector<grpc::Slice> slices;
  size_t begin = 0;
  for (const size_t end : ends) {
    slices.emplace_back(bytes.data() + begin, end - begin);
    begin = end;
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

absl::Status ErrorIn(const std::string& bytes, std::vector<size_t> ends = {}) {
  grpc::ByteBuffer answer = Cut(bytes, std::move(ends));
  absl::Status error = AnswerError(answer, kErrorField);
  EXPECT_EQ(answer.Length(), bytes.size());
  EXPECT_EQ(AnswerError(answer, kErrorField), error) << "the first look has changed the answer";
  return error;
}

v1::TrainResponse Answer() {
  v1::TrainResponse answer;
  answer.set_sequence(300);
  answer.set_disposition(v1::APPLIED);
  answer.mutable_output()->add_shape(50);
  // Bytes that would be an error where they are read as fields.
  answer.mutable_output()->set_data(std::string(200, '\x42'));
  answer.mutable_moments()->add_mean(0.5);
  return answer;
}

v1::TrainResponse Refusal() {
  v1::TrainResponse answer = Answer();
  answer.mutable_error()->set_code(3);
  answer.mutable_error()->set_message("expected 64 channels, got 32");
  return answer;
}

TEST(AnswerErrorTest, FindsNoneInAnAnswerHoweverItIsCut) {
  const std::string bytes = Answer().SerializeAsString();
  EXPECT_EQ(ErrorIn(bytes), absl::OkStatus());
  for (size_t end = 0; end <= bytes.size(); ++end) {
    EXPECT_EQ(ErrorIn(bytes, {end}), absl::OkStatus()) << end;
  }
}

TEST(AnswerErrorTest, FindsTheErrorHoweverTheAnswerIsCut) {
  const std::string bytes = Refusal().SerializeAsString();
  const absl::Status expected = absl::InvalidArgumentError("expected 64 channels, got 32");
  EXPECT_EQ(ErrorIn(bytes), expected);
  std::vector<size_t> everywhere;
  for (size_t end = 0; end <= bytes.size(); ++end) {
    EXPECT_EQ(ErrorIn(bytes, {end}), expected) << end;
    everywhere.push_back(end);
  }
  EXPECT_EQ(ErrorIn(bytes, everywhere), expected);
}

TEST(AnswerErrorTest, FindsTheErrorInFrontOfOtherFields) {
  v1::TrainResponse refusal;
  *refusal.mutable_error() = Refusal().error();
  const std::string bytes = refusal.SerializeAsString() + Answer().SerializeAsString();
  EXPECT_EQ(ErrorIn(bytes), absl::InvalidArgumentError("expected 64 channels, got 32"));
}

TEST(AnswerErrorTest, TakesAnEmptyAnswer) { EXPECT_EQ(ErrorIn(""), absl::OkStatus()); }

TEST(AnswerErrorTest, TellsThatBytesAreNoMessage) {
  const std::string bytes = Refusal().SerializeAsString();
  for (const std::string& broken :
       {bytes.substr(0, bytes.size() - 1), bytes.substr(0, 100), std::string(3, '\xff')}) {
    const absl::Status error = ErrorIn(broken);
    EXPECT_EQ(error.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(error.message()), HasSubstr("not a protobuf message"));
  }
}

TEST(AnswerErrorTest, TellsAnErrorThatSaysOk) {
  v1::TrainResponse answer = Answer();
  answer.mutable_error();
  EXPECT_EQ(ErrorIn(answer.SerializeAsString()).code(), absl::StatusCode::kInternal);
}

TEST(CpuSecondsTest, ReadsWhatAServerTells) {
  EXPECT_EQ(CpuSeconds("cpu;dur=1500.000"), 1.5);
  EXPECT_EQ(CpuSeconds("cpu;dur=0.000"), 0);
  for (const char* const other : {"", "cpu", "cpu;dur=", "cpu;dur=nan", "cpu;dur=inf", "cpu;dur=-1",
                                  "cpu;dur=1e300", "cpu;dur=1 x", "db;dur=5"}) {
    EXPECT_EQ(CpuSeconds(other), std::nullopt) << other;
  }
}

}  // namespace
}  // namespace normd::load
