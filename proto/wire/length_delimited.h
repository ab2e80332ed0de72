#ifndef NORMD_PROTO_WIRE_LENGTH_DELIMITED_H_
#define NORMD_PROTO_WIRE_LENGTH_DELIMITED_H_

#include <cstddef>
#include <cstdint>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

// Fields of bytes or messages, written by hand (protobuf.dev, "Encoding").
namespace normd::wire {

constexpr uint32_t LengthDelimitedTag(int field_number) {
  return (static_cast<uint32_t>(field_number) << 3) |
         google::protobuf::internal::WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
}

// Bytes of a field whose value has `length` bytes.
inline size_t FieldBytes(uint32_t tag, size_t length) {
  using google::protobuf::io::CodedOutputStream;
  return CodedOutputStream::VarintSize32(tag) + CodedOutputStream::VarintSize64(length) + length;
}

// Writes what stands before the value, and returns where the value goes.
inline uint8_t* WriteFieldHead(uint32_t tag, size_t length, uint8_t* to) {
  using google::protobuf::io::CodedOutputStream;
  to = CodedOutputStream::WriteVarint32ToArray(tag, to);
  return CodedOutputStream::WriteVarint64ToArray(length, to);
}

}  // namespace normd::wire

#endif  // NORMD_PROTO_WIRE_LENGTH_DELIMITED_H_
