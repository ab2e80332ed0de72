#ifndef NORMD_PROTO_WIRE_FIELD_COUNT_H_
#define NORMD_PROTO_WIRE_FIELD_COUNT_H_

#include <cstdint>
#include <optional>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/zero_copy_stream.h"

namespace normd::wire {

// How many fields a serialized message of `type` has, known or not, with those of the messages and
// groups in it: what makes the parsed message take many times its bytes. Each number of a packed
// array counts as one; the doubles of a repeated field do not, packed or not, since they take in
// memory what they take on the wire. Counts up to one above `fields_max` and reads no further.
// Nothing when the bytes are no message; some that the generated class refuses are counted.
std::optional<int64_t> CountFields(google::protobuf::io::ZeroCopyInputStream& message,
                                   const google::protobuf::Descriptor& type, int64_t fields_max);

}  // namespace normd::wire

#endif  // NORMD_PROTO_WIRE_FIELD_COUNT_H_
