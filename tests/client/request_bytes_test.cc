#include "client/cpp/request_bytes.h"

#include <string>
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
                    EncodeTrainBatch(batch, true, false)));
    EXPECT_TRUE(MessageDifferencer::Equals(actual, expected)) << length;
  }
}

TEST(RequestBytesTest, MomentsAreTheTrainRequestOfTheSameFields) {
  const Moments moments{3, {1.0, 2.0}, {0.5, 0.25}};
  v1::TrainRequest expected;
  expected.set_state("a");
  expected.set_sequence(7);
  expected.set_return_moments(true);
  expected.set_durability(v1::DURABLE);
  *expected.mutable_moments() = ToWire(moments);
  const auto actual = Parse<v1::TrainRequest>(JoinMessage(
      EncodeTrainHead("a", "", 7, Durability::kDurable), EncodeTrainBatch(moments, false, true)));
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

}  // namespace
}  // namespace normd::client
