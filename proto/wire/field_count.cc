#include "proto/wire/field_count.h"

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

namespace normd::wire {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;
using ::google::protobuf::io::ZeroCopyInputStream;

class FieldCounter {
 public:
  FieldCounter(ZeroCopyInputStream& message, int64_t fields_max)
      : input_(&message), fields_max_(fields_max) {}

  int64_t fields() const { return fields_; }
  bool has_too_many() const { return fields_ > fields_max_; }

  // Reads a message up to its end or to the first field too many. False when it is malformed. Its
  // depth is bounded by fields_max_.
  bool Count(const Descriptor& type) {
    int open_groups = 0;  // whose fields are unknown, whatever their numbers
    while (const uint32_t tag = input_.ReadTag()) {
      const FieldDescriptor* const field =
          open_groups > 0 ? nullptr
                          : type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
      const WireFormatLite::WireType wire_type = WireFormatLite::GetTagWireType(tag);
      if (wire_type != WireFormatLite::WIRETYPE_FIXED64 || !IsRepeatedDouble(field)) ++fields_;
      if (has_too_many()) return true;
      if (wire_type == WireFormatLite::WIRETYPE_START_GROUP) {
        ++open_groups;
      } else if (wire_type == WireFormatLite::WIRETYPE_END_GROUP) {
        if (--open_groups < 0) return false;
      } else if (!ReadValue(wire_type, field)) {
        return false;
      }
    }
    return open_groups == 0 && input_.ConsumedEntireMessage();
  }

 private:
  static bool IsRepeatedDouble(const FieldDescriptor* field) {
    return field != nullptr && field->is_repeated() &&
           field->type() == FieldDescriptor::TYPE_DOUBLE;
  }

  // `field`: nullptr when it is unknown.
  bool ReadValue(WireFormatLite::WireType wire_type, const FieldDescriptor* field) {
    uint64_t number = 0;
    switch (wire_type) {
      case WireFormatLite::WIRETYPE_VARINT:
        return input_.ReadVarint64(&number);
      case WireFormatLite::WIRETYPE_FIXED64:
        return input_.Skip(8);
      case WireFormatLite::WIRETYPE_FIXED32:
        return input_.Skip(4);
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED:
        return ReadBytes(field);
      default:
        return false;
    }
  }

  bool ReadBytes(const FieldDescriptor* field) {
    int length = 0;
    if (!input_.ReadVarintSizeAsInt(&length)) return false;
    if (field == nullptr || IsRepeatedDouble(field)) return input_.Skip(length);
    if (field->type() != FieldDescriptor::TYPE_MESSAGE && !field->is_packable()) {
      return input_.Skip(length);
    }
    const CodedInputStream::Limit limit = input_.PushLimit(length);
    const bool is_read = field->is_packable() ? CountNumbers() : Count(*field->message_type());
    input_.PopLimit(limit);
    return is_read;
  }

  // Of a packed array of varints, as all are in the messages that are read here but the doubles.
  bool CountNumbers() {
    uint64_t number = 0;
    for (; input_.BytesUntilLimit() > 0 && !has_too_many(); ++fields_) {
      if (!input_.ReadVarint64(&number)) return false;
    }
    return true;
  }

  CodedInputStream input_;
  const int64_t fields_max_;
  int64_t fields_ = 0;
};

}  // namespace

std::optional<int64_t> CountFields(ZeroCopyInputStream& message, const Descriptor& type,
                                   int64_t fields_max) {
  FieldCounter counter(message, fields_max);
  if (!counter.Count(type) && !counter.has_too_many()) return std::nullopt;
  return counter.fields();
}

}  // namespace normd::wire
