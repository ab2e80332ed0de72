#include "client/cpp/request_bytes.h"

#include <cstring>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "client/cpp/convert.h"
#include "google/protobuf/util/message_differencer.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "gtest/gtest.h"
#include "normd/v1/normalization_service.pb.h"

namespace normd::client {
namespace {

using ::google::protobuf::util::MessageDifferencer;

template <typename Message>
Message Parse(grpc::ByteBuffer buffer) {
  Message message;
  EXPECT_TRUE(grpc::SerializationTraits<Message>::Deserialize(&buffer, &message).ok());
  return message;
}

TEST(RequestBytesTest, ABatchIsTheTrainRequestOfTheSameFields) {
  // Lengths around the sizes where the length prefix grows.
  for (const size_t length : {0, 1, 24, 31, 32, 33, 4095, 4096, 5000}) {
    const std::vector<float> values(length, 1.5f);
    const Batch batch =
        Batch::Borrow({static_cast<int64_t>(length), 1, 1}, values, Layout::kChannelsLast);
    v1::TrainRequest expected;
    expected.set_state("a/b");
    expected.set_producer_id("me");
    expected.set_sequence(int64_t{1} << 40);
    expected.set_return_output(true);
    expected.set_durability(v1::RELAXED);
    *expected.mutable_input() = ToWire(batch);
    const auto actual = Parse<v1::TrainRequest>(
        JoinMessage(EncodeTrainHead("a/b", "me", int64_t{1} << 40, Durability::kRelaxed),
                    EncodeTrainBatch(batch, {.return_output = true})));
    EXPECT_TRUE(MessageDifferencer::Equals(actual, expected)) << length;
  }
}

TEST(RequestBytesTest, MomentsAreTheTrainRequestOfTheSameFields) {
  const Moments moments{3, {1.0, 2.0}, {0.5, 0.25}};
  v1::TrainRequest expected;
  expected.set_state("a");
  expected.set_sequence(7);
  expected.set_return_moments(true);
  expected.set_calibrate(true);
  expected.set_calibration_id("5f-2");
  expected.set_durability(v1::DURABLE);
  *expected.mutable_moments() = ToWire(moments);
  const auto actual = Parse<v1::TrainRequest>(JoinMessage(
      EncodeTrainHead("a", "", 7, Durability::kDurable),
      EncodeTrainBatch(moments,
                       {.return_moments = true, .calibrate = true, .calibration_id = "5f-2"})));
  EXPECT_TRUE(MessageDifferencer::Equals(actual, expected));
}

TEST(RequestBytesTest, ABatchIsTheNormalizeRequestOfTheSameFields) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Batch batch = Batch::Borrow({2, 3}, values);
  v1::NormalizeRequest expected;
  expected.set_state("a");
  expected.set_sequence(7);
  *expected.mutable_input() = ToWire(batch);
  const auto actual = Parse<v1::NormalizeRequest>(
      JoinMessage(EncodeNormalizeHead("a", 7), EncodeNormalizeBatch(batch)));
  EXPECT_TRUE(MessageDifferencer::Equals(actual, expected));
}

TEST(RequestBytesTest, ABatchOfAnyDtypeIsSentAsItLies) {
  const std::string bytes = "abcdefgh";
  for (const auto& [dtype, wire_dtype, elements] :
       {std::tuple(DataType::kFloat64, v1::FLOAT64, 1),
        std::tuple(DataType::kFloat32, v1::FLOAT32, 2),
        std::tuple(DataType::kFloat16, v1::FLOAT16, 4),
        std::tuple(DataType::kBfloat16, v1::BFLOAT16, 4)}) {
    const Batch batch = Batch::Borrow({1, elements}, dtype, bytes);
    const auto actual = Parse<v1::NormalizeRequest>(
        JoinMessage(EncodeNormalizeHead("a", 1), EncodeNormalizeBatch(batch)));
    EXPECT_EQ(actual.input().dtype(), wire_dtype);
    EXPECT_EQ(actual.input().shape(1), elements);
    EXPECT_EQ(actual.input().data(), bytes);
  }
}

// The message refers to the values of the batch, and keeps them.
TEST(RequestBytesTest, ValuesThatABatchOwnsAreNotCopied) {
  std::vector<float> values(5000);
  std::iota(values.begin(), values.end(), 0.0F);
  const std::vector<float> expected = values;
  const float* const data = values.data();
  grpc::ByteBuffer message;
  {
    const Batch batch = Batch::Own({5000, 1}, std::move(values));
    message = JoinMessage(EncodeNormalizeHead("a", 1), EncodeNormalizeBatch(batch));
  }
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(message.Dump(&slices).ok());
  EXPECT_EQ(slices.back().begin(), reinterpret_cast<const uint8_t*>(data));
  const auto actual = Parse<v1::NormalizeRequest>(message);
  ASSERT_EQ(actual.input().data().size(), 5000 * sizeof(float));
  EXPECT_EQ(std::memcmp(actual.input().data().data(), expected.data(), 5000 * sizeof(float)), 0);
}

TEST(RequestBytesTest, TwoBatchesAreTheBackwardRequestOfTheSameFields) {
  const std::vector<double> input = {1, 2, 3, 4};
  const std::vector<double> grad_output = {5, 6, 7, 8};
  BackwardFlags flags;
  flags.mode = BackwardMode::kEval;
  flags.moments = Moments{2, {1.0, 2.0}, {0.5, 0.25}};
  flags.omit_grad_input = true;
  flags.apply = true;
  v1::BackwardRequest expected;
  expected.set_state("a");
  expected.set_producer_id("me");
  expected.set_sequence(7);
  expected.set_durability(v1::DURABLE);
  *expected.mutable_input() = ToWire(Batch::Borrow({2, 2}, input));
  *expected.mutable_grad_output() = ToWire(Batch::Borrow({2, 2}, grad_output));
  expected.set_mode(v1::BackwardRequest::EVAL);
  *expected.mutable_moments() = ToWire(*flags.moments);
  expected.set_omit_grad_input(true);
  expected.set_apply(true);
  const auto actual = Parse<v1::BackwardRequest>(
      JoinMessage(EncodeBackwardHead("a", "me", 7, Durability::kDurable),
                  EncodeBackwardBatch(Batch::Borrow({2, 2}, input),
                                      Batch::Borrow({2, 2}, grad_output), flags)));
  EXPECT_TRUE(MessageDifferencer::Equals(actual, expected));
}

}  // namespace
}  // namespace normd::client
