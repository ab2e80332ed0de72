#ifndef NORMD_PROTO_WIRE_MESSAGE_SPLIT_H_
#define NORMD_PROTO_WIRE_MESSAGE_SPLIT_H_

#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normd::wire {

// Bytes that lie in several places, in their order.
using Pieces = absl::InlinedVector<absl::string_view, 8>;

// A field of type normd.v1.Tensor.
struct TensorField {
  int number = 0;
  // The other message of its oneof, which takes its place; 0: none.
  int oneof_other = 0;
};

// Splits a serialized message into the bytes of its tensors and all the rest, so that a generated
// class parses the rest and the tensors stay where they are (protobuf.dev, "Encoding"). `rest` is
// the message without Tensor.data of `fields`; data[i] becomes those bytes of fields[i], as they
// lie in `message`, empty when there are none. False when the bytes are no message; a rest that
// does not parse is found by its parser: both together accept what the generated class accepts.
// REQUIRES: data is as long as fields.
bool SplitMessage(absl::Span<const absl::string_view> message, absl::Span<const TensorField> fields,
                  std::string& rest, absl::Span<Pieces> data);

}  // namespace normd::wire

#endif  // NORMD_PROTO_WIRE_MESSAGE_SPLIT_H_
