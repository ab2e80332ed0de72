// SplitMessage and ParseRequest against the classes that protoc generates: both accept and refuse
// the same bytes, and read the same from what they accept. CountFields against what these classes
// make of the same bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/message.h"
#include "google/protobuf/stubs/logging.h"
#include "google/protobuf/unknown_field_set.h"
#include "normd/v1/normalization_service.pb.h"
#include "proto/wire/field_count.h"
#include "proto/wire/message_split.h"
#include "proto/wire/request_parser.h"
#include "tests/testing/seeded_random.h"

namespace normd::wire {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Reflection;

constexpr int kMutations = 60000;  // of each message

// The fields of type Tensor, and what their oneofs have beside them.
std::vector<TensorField> TensorFields(const Descriptor& descriptor) {
  std::vector<TensorField> fields;
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    if (field.message_type() != v1::Tensor::descriptor()) continue;
    TensorField tensor = {field.number()};
    if (const auto* oneof = field.containing_oneof(); oneof != nullptr) {
      for (int j = 0; j < oneof->field_count(); ++j) {
        if (oneof->field(j) != &field) tensor.oneof_other = oneof->field(j)->number();
      }
    }
    fields.push_back(tensor);
  }
  return fields;
}

std::string Serialize(const google::protobuf::UnknownFieldSet& fields) {
  std::string bytes;
  fields.SerializeToString(&bytes);
  return bytes;
}

int64_t Elements(const google::protobuf::UnknownFieldSet& fields) {
  int64_t elements = fields.field_count();
  for (int i = 0; i < fields.field_count(); ++i) {
    if (fields.field(i).type() == google::protobuf::UnknownField::TYPE_GROUP) {
      elements += Elements(fields.field(i).group());
    }
  }
  return elements;
}

// What takes memory of its own in a parsed message: fields, elements of arrays but doubles, and
// what is not known.
int64_t Elements(const google::protobuf::Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  int64_t elements = Elements(reflection.GetUnknownFields(message));
  for (const FieldDescriptor* field : fields) {
    if (!field->is_repeated()) {
      ++elements;
      if (field->message_type() != nullptr) {
        elements += Elements(reflection.GetMessage(message, field));
      }
    } else if (field->type() != FieldDescriptor::TYPE_DOUBLE) {
      elements += reflection.FieldSize(message, field);
    }
  }
  return elements;
}

class MessageSplitFuzzTest : public ::testing::Test {
 protected:
  // A number below `limit`.
  size_t Below(size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random_);
  }
  bool OneIn(size_t count) { return Below(count) == 0; }

  std::string Bytes(size_t size_max) {
    std::string bytes(Below(size_max + 1), '\0');
    for (char& byte : bytes) byte = static_cast<char>(Below(256));
    return bytes;
  }

  // A field that no message here knows, or that has a known number and another type.
  std::string OtherField() {
    google::protobuf::UnknownFieldSet fields;
    const int number = OneIn(2) ? static_cast<int>(1 + Below(10)) : 1000;
    switch (Below(5)) {
      case 0:
        fields.AddVarint(number, random_());
        break;
      case 1:
        fields.AddFixed32(number, static_cast<uint32_t>(random_()));
        break;
      case 2:
        fields.AddFixed64(number, random_());
        break;
      case 3:
        fields.AddGroup(number)->AddLengthDelimited(4, Bytes(6));
        break;
      default:
        fields.AddLengthDelimited(1000, Bytes(6));
    }
    return Serialize(fields);
  }

  v1::Tensor RandomTensor() {
    v1::Tensor tensor;
    if (OneIn(2)) tensor.set_dtype(v1::FLOAT32);
    for (size_t i = Below(3); i > 0; --i) tensor.add_shape(static_cast<int64_t>(Below(300)));
    if (OneIn(3)) tensor.set_layout(v1::CHANNELS_LAST);
    if (!OneIn(4)) tensor.set_data(Bytes(40));
    return tensor;
  }

  // A message whose fields come in any order, and come again.
  template <typename Request>
  std::string RandomMessage() {
    std::string bytes;
    for (size_t parts = 1 + Below(6); parts > 0; --parts) {
      Request part;
      if (OneIn(3)) part.set_state("m/bn1");
      if (OneIn(3)) part.set_sequence(static_cast<int64_t>(random_()));
      if (!OneIn(3)) *part.mutable_input() = RandomTensor();
      if constexpr (requires { part.mutable_grad_output(); }) {
        if (OneIn(2)) *part.mutable_grad_output() = RandomTensor();
      }
      if constexpr (requires { part.mutable_moments(); }) {
        for (size_t i = OneIn(2) ? 0 : Below(4); i > 0; --i) {
          part.mutable_moments()->add_mean(static_cast<double>(i));
        }
        if (OneIn(6)) part.mutable_moments()->add_m2(1.5);
        if (OneIn(6)) part.mutable_moments()->set_count(static_cast<int64_t>(Below(3)));
        if (OneIn(6)) part.set_durability(v1::RELAXED);
      }
      if constexpr (requires { part.set_calibration_id(""); }) {
        if (OneIn(6)) part.set_producer_id("trainer");
        if (OneIn(6)) part.set_return_output(true);
        if (OneIn(6)) part.set_return_moments(true);
        if (OneIn(6)) part.set_calibrate(true);
        if (OneIn(6)) part.set_calibration_id(OneIn(4) ? "5-\xc3\xa9" : "5-1");
      }
      bytes += part.SerializeAsString();
      if (OneIn(2)) bytes += OtherField();
    }
    return bytes;
  }

  void Mutate(std::string& bytes) {
    for (size_t changes = 1 + Below(3); changes > 0; --changes) {
      const size_t at = Below(bytes.size() + 1);
      switch (Below(6)) {
        case 0:
          bytes.insert(at, Bytes(4));
          break;
        case 1:
          bytes.erase(at, Below(4));
          break;
        case 2:
          bytes.resize(at);
          break;
        case 3:
          bytes.insert(at, std::string(Below(12), '\xff'));
          break;
        case 4:
          bytes.insert(at, OtherField());
          break;
        default:
          if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << Below(8)));
      }
    }
  }

  // `bytes` cut at random places; a piece may be empty.
  std::vector<absl::string_view> Cut(absl::string_view bytes) {
    std::vector<absl::string_view> pieces;
    while (!bytes.empty()) {
      const size_t size = OneIn(3) ? bytes.size() : Below(std::min<size_t>(bytes.size(), 8) + 1);
      pieces.push_back(bytes.substr(0, size));
      bytes.remove_prefix(size);
    }
    return pieces;
  }

  template <typename Request>
  void ExpectSame(const std::string& bytes) {
    SCOPED_TRACE(Request::descriptor()->name() + " " + absl::BytesToHexString(bytes));
    Request expected;
    const bool parses = expected.ParseFromString(bytes);

    const std::vector<TensorField> fields = TensorFields(*Request::descriptor());
    std::vector<Pieces> data(fields.size());
    std::string rest;
    Request actual;
    const std::vector<absl::string_view> pieces = Cut(bytes);
    const bool splits =
        SplitMessage(pieces, fields, rest, absl::MakeSpan(data)) && actual.ParseFromString(rest);
    ASSERT_EQ(splits, parses);
    ExpectParserAgrees(pieces, parses, data, actual);
    ExpectCounted(bytes, expected, parses);
    if (HasFatalFailure() || !parses) return;
    ++accepted_;
    for (size_t i = 0; i < fields.size(); ++i) {
      std::string tensor_data;
      for (const absl::string_view piece : data[i]) tensor_data.append(piece.data(), piece.size());
      const FieldDescriptor* field = Request::descriptor()->FindFieldByNumber(fields[i].number);
      const Reflection& reflection = *actual.GetReflection();
      if (!reflection.HasField(actual, field)) {
        ASSERT_EQ(tensor_data, "") << field->name();
        continue;
      }
      auto* tensor = static_cast<v1::Tensor*>(reflection.MutableMessage(&actual, field));
      ASSERT_EQ(tensor->data(), "") << field->name();
      tensor->set_data(tensor_data);
    }
    ASSERT_EQ(absl::BytesToHexString(actual.SerializeAsString()),
              absl::BytesToHexString(expected.SerializeAsString()));
  }

  // What ParseRequest accepts it reads as SplitMessage and the generated class do: `data`, `rest`.
  template <typename Request>
  void ExpectParserAgrees(absl::Span<const absl::string_view> message, bool parses,
                          absl::Span<const Pieces> data, const Request& rest) {
    if constexpr (requires(Request & request, Pieces & bytes) {
                    ParseRequest(message, request, bytes);
                  }) {
      Request request;
      Pieces bytes;
      if (!ParseRequest(message, request, bytes)) return;
      ++parsed_at_once_;
      ASSERT_TRUE(parses);
      ASSERT_EQ(bytes, data[0]);
      ASSERT_EQ(absl::BytesToHexString(request.SerializeAsString()),
                absl::BytesToHexString(rest.SerializeAsString()));
    }
  }

  // That the count holds what `parsed` is made of, and that no message passes for malformed.
  void ExpectCounted(const std::string& bytes, const google::protobuf::Message& parsed,
                     bool parses) {
    google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()),
                                                  static_cast<int>(1 + Below(8)));
    const auto all = static_cast<int64_t>(bytes.size());
    const std::optional<int64_t> count = CountFields(stream, *parsed.GetDescriptor(), all);
    if (!parses) return;
    ASSERT_TRUE(count.has_value());
    ASSERT_GE(*count, Elements(parsed));
    ASSERT_LE(*count, all);
  }

  template <typename Request>
  void Run() {
    for (int i = 0; i < kMutations && !HasFatalFailure(); ++i) {
      std::string bytes = RandomMessage<Request>();
      ExpectSame<Request>(bytes);
      if (HasFatalFailure()) return;
      Mutate(bytes);
      ExpectSame<Request>(bytes);
    }
    // Neither all refused nor, of the mutated, all accepted.
    EXPECT_GT(accepted_, kMutations);
    EXPECT_LT(accepted_, 2 * kMutations);
  }

  SeededRandom random_;
  int accepted_ = 0;
  int parsed_at_once_ = 0;

 private:
  const google::protobuf::LogSilencer silencer_;  // of names that are not UTF-8
};

TEST_F(MessageSplitFuzzTest, TrainRequest) {
  Run<v1::TrainRequest>();
  EXPECT_GT(parsed_at_once_, kMutations / 10);
}
TEST_F(MessageSplitFuzzTest, NormalizeRequest) {
  Run<v1::NormalizeRequest>();
  EXPECT_GT(parsed_at_once_, kMutations / 10);
}
TEST_F(MessageSplitFuzzTest, BackwardRequest) { Run<v1::BackwardRequest>(); }

// Bytes that a random search is slow to find.
TEST_F(MessageSplitFuzzTest, Corpus) {
  for (const char* hex : {
           "",
           "00",                            // field number 0
           "2206220411111111",              // a tensor with data alone
           "220622041111111122022200",      // whose data becomes empty
           "22062204111111112a00",          // and gives way to moments
           "22062204111111112a002200",      // and comes again
           "a28080800006220411111111",      // a tag of five bytes
           "a280808080000622041111111100",  // of six
           "a280808010062204111111 11",     // whose upper bits are lost
           "2286808080000622041111111122",  // a length of more bytes than it needs
           "22868080800822041111111122",    // of 2^31
           "22868080800f",                  // of 4 GiB
           "2207220411111111",              // longer than what follows
           "220522041111111122",            // shorter than its field
           "230c",                          // a group of the tensor's number, ended by another's
           "23220411111111 24",             // and by its own
           "24",                            // an end without a group
           "2204230a0024",                  // groups in a tensor
           "220122",                        // a tensor that ends in a tag
           "2202200a",                      // data that is a number
           "26",                            // a wire type that is none
           "18ffffffffffffffffff7f",        // a number of ten bytes, of which one bit counts
           "18ffffffffffffffffffff01",      // of eleven
           "0a02c328",                      // a name that is not UTF-8
           "0a81808080800061",              // a length of six bytes
           "22868080808000220411111111",    // of a tensor's
       }) {
    std::string text = hex;
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    const std::string bytes = absl::HexStringToBytes(text);
    for (int cut = 0; cut < 20; ++cut) {
      ExpectSame<v1::TrainRequest>(bytes);
      ExpectSame<v1::NormalizeRequest>(bytes);
      ExpectSame<v1::BackwardRequest>(bytes);
      if (HasFatalFailure()) return;
    }
  }
}

// Groups within groups, of which a parser takes so many only.
TEST_F(MessageSplitFuzzTest, NestedGroups) {
  for (const size_t depth : {1U, 50U, 99U, 100U, 101U, 5000U}) {
    const std::string groups = std::string(depth, '\x5b') + std::string(depth, '\x5c');
    ExpectSame<v1::TrainRequest>(groups);
    google::protobuf::UnknownFieldSet tensor;
    tensor.AddLengthDelimited(v1::TrainRequest::kInputFieldNumber, groups);
    ExpectSame<v1::TrainRequest>(Serialize(tensor));
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace normd::wire
