#ifndef NORMD_PROTO_WIRE_REQUEST_PARSER_H_
#define NORMD_PROTO_WIRE_REQUEST_PARSER_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "normd/v1/normalization_service.pb.h"
#include "proto/wire/message_split.h"

namespace normd::wire {

// SplitMessage and the generated parser in one pass, for the requests that there are most of: reads
// into `request`, which is empty, all but Tensor.data of its input, and into `data` where those
// bytes lie in `message`. False when the message has something that is left to those two: a field
// that the class does not know, text that is long or beyond ASCII, a long shape, an unusual
// encoding, or what is malformed; `request` and `data` are then to be cleared. What it accepts it
// reads as they do. One pass over the bytes, which takes at most twice their memory beside `data`.
bool ParseRequest(absl::Span<const absl::string_view> message, v1::NormalizeRequest& request,
                  Pieces& data);
bool ParseRequest(absl::Span<const absl::string_view> message, v1::TrainRequest& request,
                  Pieces& data);

}  // namespace normd::wire

#endif  // NORMD_PROTO_WIRE_REQUEST_PARSER_H_
