#ifndef NORMD_CLIENT_CLI_MOMENTS_FILE_H_
#define NORMD_CLIENT_CLI_MOMENTS_FILE_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/array_reader.h"
#include "client/cli/array_writer.h"
#include "client/cpp/moments.h"

// The moments that forward calls returned, in a file: an array of float64 for each mini-batch, in
// their order, of shape (3, M) for the M sets that it was normalized by: the count in every place
// of row 0, the mean in row 1, m2 in row 2. One of shape (3, 0) stands for moments that were not
// returned.
namespace normd::cli {

// The moments of a mini-batch, or nothing.
using SavedMoments = std::optional<client::Moments>;

// Appends those of one mini-batch.
absl::Status WriteMoments(const SavedMoments& moments, ArrayWriter* writer);

// Those of the next mini-batch; nothing at the end. Whether they fit the input is for the server to
// say. Errors: the reader's; kInvalidArgument for an array that is none of moments.
absl::StatusOr<std::optional<SavedMoments>> ReadMoments(ArrayReader* reader);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_MOMENTS_FILE_H_
