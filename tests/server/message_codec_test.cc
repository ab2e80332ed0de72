#include "server/message_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/limits.h"
#include "google/protobuf/unknown_field_set.h"
#include "normd/v1/normalization_service.pb.h"
#include "normd/v1/state_service.pb.h"
#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using ::testing::HasSubstr;

constexpr wire::TensorField kGradOutput[] = {{v1::BackwardRequest::kGradOutputFieldNumber}};
constexpr wire::TensorField kInput[] = {{v1::NormalizeRequest::kInputFieldNumber}};

v1::NormalizeRequest Request(const std::string& data) {
  v1::NormalizeRequest request;
  request.set_state("m/bn1");
  request.mutable_input()->set_dtype(v1::FLOAT32);
  request.mutable_input()->add_shape(static_cast<int64_t>(data.size()) / 4);
  request.mutable_input()->set_data(data);
  request.set_sequence(7);
  return request;
}

// `bytes` in slices of `slice_bytes`, as a transport may cut them.
grpc::ByteBuffer Sliced(const std::string& bytes, size_t slice_bytes) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += slice_bytes) {
    slices.emplace_back(bytes.data() + at, std::min(slice_bytes, bytes.size() - at));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

std::string Joined(const wire::Pieces& pieces) { return absl::StrJoin(pieces, ""); }

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 37 + i / 256);
  return bytes;
}

class MessageCodecTest : public ::testing::Test {
 protected:
  const std::shared_ptr<BufferPool> pool_ = BufferPool::Create(kMiB);
};

TEST_F(MessageCodecTest, ReadsATensorWhereverItLies) {
  const std::string data = Pattern(4000);
  const std::string bytes = Request(data).SerializeAsString();
  for (const size_t slice_bytes : {1UL, 3UL, 24UL, 1000UL, 4003UL, bytes.size()}) {
    grpc::ByteBuffer sliced = Sliced(bytes, slice_bytes);
    RequestBytes request(&sliced);
    v1::NormalizeRequest rest;
    ASSERT_TRUE(request.Parse(kMiB, kInput, rest).ok()) << slice_bytes;
    EXPECT_EQ(rest.state(), "m/bn1");
    EXPECT_EQ(rest.sequence(), 7);
    EXPECT_EQ(rest.input().shape(0), 1000);
    EXPECT_EQ(rest.input().data(), "");
    EXPECT_TRUE(Joined(request.TensorPieces(0)) == data) << slice_bytes;
  }
}

TEST_F(MessageCodecTest, ATensorIsNotCopied) {
  const std::string data = Pattern(64);
  const std::string bytes = Request(data).SerializeAsString();
  const grpc::Slice slice(bytes.data(), bytes.size(), grpc::Slice::STATIC_SLICE);
  grpc::ByteBuffer buffer(&slice, 1);
  RequestBytes request(&buffer);
  v1::NormalizeRequest rest;
  ASSERT_TRUE(request.Parse(kMiB, kInput, rest).ok());
  ASSERT_EQ(request.TensorPieces(0).size(), 1U);
  EXPECT_EQ(request.TensorPieces(0).front().data(), bytes.data() + bytes.find(data));
}

TEST_F(MessageCodecTest, AMessageWithoutItsTensorHasNoData) {
  v1::NormalizeRequest request;
  request.set_state("m");
  grpc::ByteBuffer sliced = Sliced(request.SerializeAsString(), 100);
  RequestBytes bytes(&sliced);
  v1::NormalizeRequest rest;
  ASSERT_TRUE(bytes.Parse(kMiB, kInput, rest).ok());
  EXPECT_FALSE(rest.has_input());
  EXPECT_EQ(Joined(bytes.TensorPieces(0)), "");

  grpc::ByteBuffer nothing;
  RequestBytes empty(&nothing);
  v1::NormalizeRequest no_fields;
  ASSERT_TRUE(empty.Parse(kMiB, kInput, no_fields).ok());
  EXPECT_EQ(no_fields.ByteSizeLong(), 0U);
}

TEST_F(MessageCodecTest, RefusesWhatIsTooLargeOrNoMessage) {
  v1::NormalizeRequest rest;
  grpc::ByteBuffer too_large = Sliced(std::string(65537, '\0'), 10);
  RequestBytes large(&too_large);
  EXPECT_THAT(large.Parse(65536, kInput, rest),
              IsError(Reason::kMessageTooLarge,
                      "the message has 65537 bytes, expected at most 65536 (--message-bytes-max)"));
  grpc::ByteBuffer above_a_constant = Sliced(std::string(101, '\0'), 10);
  RequestBytes small(&above_a_constant);
  EXPECT_THAT(small.Parse(100, kInput, rest),
              IsError(Reason::kMessageTooLarge, "the message has 101 bytes, expected at most 100"))
      << "the flag cannot be below 64 KiB, so this limit is none of its";
  grpc::ByteBuffer no_message = Sliced("no message", 4);
  RequestBytes malformed(&no_message);
  EXPECT_THAT(malformed.Parse(100, kInput, rest),
              IsError(Reason::kMessageMalformed, HasSubstr("normd.v1.NormalizeRequest")));
}

// Bytes with so many fields, which take more in memory than on the wire.
struct ManyFields {
  std::string name;
  std::function<std::string(int64_t fields)> make;
};

std::string Repeated(absl::string_view bytes, int64_t count) {
  std::string all;
  for (int64_t i = 0; i < count; ++i) all.append(bytes.data(), bytes.size());
  return all;
}

// A field of the bytes `bytes`.
std::string Field(int number, const std::string& bytes) {
  google::protobuf::UnknownFieldSet field;
  field.AddLengthDelimited(number, bytes);
  std::string serialized;
  field.SerializeToString(&serialized);
  return serialized;
}

std::vector<ManyFields> AllManyFields() {
  constexpr int kTensor = v1::BackwardRequest::kGradOutputFieldNumber;
  constexpr int kMoments = v1::BackwardRequest::kMomentsFieldNumber;
  const std::string unknown("\xf8\x01\x00", 3);
  return {
      {"Unknown", [=](int64_t fields) { return Repeated(unknown, fields); }},
      {"UnknownBytes",
       [](int64_t fields) { return Repeated(absl::string_view("\xfa\x01\x00", 3), fields); }},
      {"UnknownFixed",
       [](int64_t fields) { return Repeated(std::string("\xf9\x01") + Pattern(8), fields); }},
      {"Groups",
       [](int64_t fields) {
         return Repeated("\xfb\x01\xfc\x01", fields / 2) + (fields % 2 == 0 ? "" : Field(1, "m"));
       }},
      {"InAGroup",
       [=](int64_t fields) { return "\xfb\x01" + Repeated(unknown, fields - 2) + "\xfc\x01"; }},
      {"InATensor", [=](int64_t fields) { return Field(kTensor, Repeated(unknown, fields - 1)); }},
      {"PackedShape",
       [](int64_t fields) { return Field(kTensor, Field(2, std::string(fields - 2, '\x01'))); }},
      {"UnpackedShape",
       [](int64_t fields) { return Field(kTensor, Repeated("\x10\x01", fields - 1)); }},
      // No array of doubles has this number in a tensor.
      {"DoublesThatAreNone",
       [](int64_t fields) { return Field(kTensor, Repeated("\x19" + Pattern(8), fields - 1)); }},
      {"EmptyTensors",
       [](int64_t fields) { return Repeated(absl::string_view("\x22\x00", 2), fields); }},
      {"NoDoubles",
       [](int64_t fields) {
         return Field(kMoments, Repeated(absl::string_view("\x12\x00", 2), fields - 1));
       }},
  };
}

TEST_F(MessageCodecTest, TakesSoManyFieldsAndNoMore) {
  for (const ManyFields& many : AllManyFields()) {
    SCOPED_TRACE(many.name);
    for (const size_t slice_bytes : {7UL, 100'000UL}) {
      grpc::ByteBuffer most = Sliced(many.make(kMessageFieldsMax), slice_bytes);
      v1::BackwardRequest message;
      EXPECT_TRUE(RequestBytes(&most).Parse(kMiB, kGradOutput, message).ok());
      EXPECT_EQ(message.GetReflection()->GetUnknownFields(message).field_count(), 0);
      const std::string bytes = many.make(kMessageFieldsMax + 1);
      const auto is_refused =
          IsError(Reason::kMessageTooLarge,
                  absl::StrCat("the message has more than 1024 fields in ", bytes.size(),
                               " bytes, expected at most 1024 beside the values of arrays"));
      grpc::ByteBuffer too_many = Sliced(bytes, slice_bytes);
      EXPECT_THAT(RequestBytes(&too_many).Parse(kMiB, kGradOutput, message), is_refused);
    }
  }
}

TEST_F(MessageCodecTest, TakesSoManyFieldsOfAMessageWithoutTensorsAndNoMore) {
  v1::UpdateStateRequest request;
  // The mask is a field too.
  for (int64_t i = 1; i < kMessageFieldsMax; ++i) request.mutable_update_mask()->add_paths("");
  v1::UpdateStateRequest message;
  grpc::ByteBuffer most = Sliced(request.SerializeAsString(), 100);
  EXPECT_TRUE(ParseMessage(&most, kMiB, message).ok());
  EXPECT_EQ(message.update_mask().paths_size(), kMessageFieldsMax - 1);
  request.mutable_update_mask()->add_paths("");
  grpc::ByteBuffer too_many = Sliced(request.SerializeAsString(), 100);
  EXPECT_THAT(ParseMessage(&too_many, kMiB, message),
              IsError(Reason::kMessageTooLarge, HasSubstr("more than 1024 fields in 2051 bytes")));
}

// The arrays of any state and batch are few fields, however long.
TEST_F(MessageCodecTest, TakesAsManyValuesAsThereAre) {
  const std::string data = Pattern(8 * kNumFeaturesMax);
  v1::CreateStateRequest create;
  create.mutable_state()->mutable_parameters()->mutable_weight()->set_data(data);
  create.mutable_state()->mutable_running_stats()->mutable_running_var()->set_data(data);
  grpc::ByteBuffer created = Sliced(create.SerializeAsString(), 16384);
  v1::CreateStateRequest state;
  ASSERT_TRUE(ParseMessage(&created, kControlMessageBytesMax, state).ok());
  EXPECT_TRUE(state.state().running_stats().running_var().data() == data);

  v1::BackwardRequest backward;
  for (int axis = 0; axis < 128; ++axis) {
    backward.mutable_input()->add_shape(INT64_MAX);
    backward.mutable_grad_output()->add_shape(-1);
  }
  backward.mutable_grad_output()->set_data(data);
  for (int64_t i = 0; i < kNumFeaturesMax; ++i) backward.mutable_moments()->add_mean(1.5);
  std::string bytes = backward.SerializeAsString();
  // As a client of proto2 writes them: moments { m2: 2.5 ... } with a tag before each.
  const std::string unpacked =
      Repeated(absl::string_view("\x19\0\0\0\0\0\0\x04\x40", 9), kNumFeaturesMax);
  bytes += Field(v1::BackwardRequest::kMomentsFieldNumber, unpacked);
  grpc::ByteBuffer sliced = Sliced(bytes, 16384);
  RequestBytes request(&sliced);
  v1::BackwardRequest rest;
  ASSERT_TRUE(request.Parse(kDefaultMessageBytes, kGradOutput, rest).ok());
  EXPECT_TRUE(Joined(request.TensorPieces(0)) == data);
  EXPECT_EQ(rest.grad_output().shape_size(), 128);
  EXPECT_EQ(rest.moments().mean_size(), kNumFeaturesMax);
  EXPECT_EQ(rest.moments().m2_size(), kNumFeaturesMax);
  EXPECT_EQ(rest.moments().m2(kNumFeaturesMax - 1), 2.5);
}

// What a client reads is what the generated class would have written.
TEST_F(MessageCodecTest, AResponseIsWhatTheGeneratedClassReads) {
  for (const size_t axes : {0UL, 1UL, 5UL, 60UL}) {
    for (const size_t size : {0UL, 4UL, 127UL, 8192UL, 8193UL, 70000UL}) {
      v1::NormalizeResponse expected;
      expected.set_sequence(INT64_MAX);
      expected.set_revision(-1);
      v1::Tensor like;
      like.set_dtype(v1::FLOAT16);
      like.set_layout(v1::CHANNELS_LAST);
      for (size_t axis = 0; axis < axes; ++axis) like.add_shape(INT64_MAX);
      const std::string data = Pattern(size);

      ResponseTensor tensor;
      char* const to = tensor.Begin(v1::NormalizeResponse::kOutputFieldNumber, like, size, *pool_);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(to) % (size > 8192 ? 64 : 8), 0U);
      std::copy(data.begin(), data.end(), to);
      const std::string bytes = BytesOf(tensor.Serialize(expected));

      *expected.mutable_output() = like;
      expected.mutable_output()->set_data(data);
      v1::NormalizeResponse actual;
      ASSERT_TRUE(actual.ParseFromString(bytes));
      EXPECT_TRUE(actual.SerializeAsString() == expected.SerializeAsString())
          << axes << " axes, " << size << " bytes";
    }
  }
}

TEST_F(MessageCodecTest, AResponseHasNothingThatIsNotKnown) {
  v1::Tensor like;
  like.set_dtype(v1::FLOAT32);
  like.GetReflection()->MutableUnknownFields(&like)->AddVarint(1000, 7);
  ResponseTensor tensor;
  const std::string data = Pattern(4);
  std::copy(data.begin(), data.end(),
            tensor.Begin(v1::NormalizeResponse::kOutputFieldNumber, like, 4, *pool_));
  v1::NormalizeResponse expected;
  expected.mutable_output()->set_dtype(v1::FLOAT32);
  expected.mutable_output()->set_data(data);
  EXPECT_EQ(BytesOf(tensor.Serialize(v1::NormalizeResponse())), expected.SerializeAsString());
}

TEST_F(MessageCodecTest, AResponseMayHaveNoTensor) {
  v1::NormalizeResponse response;
  response.set_sequence(3);
  EXPECT_EQ(BytesOf(ResponseTensor().Serialize(response)), response.SerializeAsString());
  v1::Tensor like;
  ResponseTensor cleared;
  cleared.Begin(v1::NormalizeResponse::kOutputFieldNumber, like, 100, *pool_);
  cleared.Clear();
  EXPECT_EQ(BytesOf(cleared.Serialize(response)), response.SerializeAsString());
}

}  // namespace
}  // namespace normd
